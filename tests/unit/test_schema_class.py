"""An event class that does not follow its schema is refused before the start, by name of class, file and field."""

from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

from streams.contract import check_class
from streams.errors import SetupError
from streams.record import event
from streams.registry import FolderRegistry
from tests.property.contracts import EVERYTHING, Everything, Part, released


class Blue(Enum):
    RED = "red"
    BLUE = "blue"


class Other(msgspec.Struct, frozen=True):
    name: str
    tags: tuple[str, ...]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> FolderRegistry:
    return released(tmp_path_factory.mktemp("schemas"), EVERYTHING)


FIELDS: dict[str, Any] = {field.name: field for field in msgspec.structs.fields(Everything)}


def variant(name: str = "Everything", topic: str = "things.made", drop: str = "", config: Any = None, **types: Any) -> type:
    """The class Everything with some fields' types (or (type, default)) replaced, added or dropped."""
    fields: list[Any] = []
    for field in FIELDS.values():
        own = types.pop(field.name, field.type)
        if field.name == drop:
            continue
        default = () if field.default is msgspec.NODEFAULT else (field.default,)
        fields.append((field.name, *own) if isinstance(own, tuple) else (field.name, own, *default))
    fields += [(added, *own) for added, own in types.items()]
    return event(topic, key="name")(msgspec.defstruct(name, fields, frozen=True, kw_only=True, **(config or {})))


def test_the_class_itself_passes(registry: FolderRegistry) -> None:
    check_class(Everything, registry.versions("things.made-value")[-1])
    check_class(variant(), registry.versions("things.made-value")[-1])


@pytest.mark.parametrize(
    ("cls", "says"),
    [
        (variant(name="Nothing"), "Nothing is a record Everything by the schema"),
        (variant(topic="things.lost"), "goes to things.lost, its schema to things.made"),
        (variant(drop="count"), "Everything.count is missing in the class"),
        (variant(more=(int, 0)), "Everything.more is not in the schema"),
        (variant(count=float), "Everything.count is a long by the schema"),
        (variant(count=bool), "Everything.count is a long"),
        (variant(share=int), "Everything.share is a double"),
        (variant(blob=str), "Everything.blob is a bytes"),
        (variant(at=str), "Everything.at is a timestamp by the schema"),
        (variant(at=Annotated[datetime, msgspec.Meta(tz=False)]), "Everything.at is a timestamp"),
        (variant(count=Annotated[int, msgspec.Meta(ge=0)]), "Everything.count has a bound"),
        (variant(kind=(Annotated[str, msgspec.Meta(max_length=9)], "plain")), "Everything.kind has a bound"),
        (variant(colour=Blue), "Everything.colour is an enum of red, green"),
        (variant(colour=str), "Everything.colour is an enum of red, green"),
        (variant(count=int | None), "Everything.count is never null by the schema"),
        (variant(note=(str, "")), "Everything.note may be null by the schema"),
        (variant(parts=list[Part]), "Everything.parts is an array by the schema"),
        (variant(parts=tuple[Other, ...]), "Everything.parts[] is a record Part by the schema"),
        (variant(grid=tuple[tuple[str, ...], ...]), "Everything.grid[][] is a long"),
        (variant(labels=dict[int, str]), "Everything.labels is a map by the schema"),
        (variant(limit=(int, 11)), "Everything.limit has the default 10 by the schema"),
        (variant(limit=(int,)), "Everything.limit has the default 10 by the schema"),
        (variant(count=(int, 0)), "Everything.count has no default by the schema"),
        (variant(config={"omit_defaults": True}), "does more than hold values"),
        (variant(config={"array_like": True}), "does more than hold values"),
        (variant(config={"tag": "t"}), "does more than hold values"),
        (variant(config={"rename": "upper"}), "Everything.name is missing in the class, or renamed"),
        (variant(config={"namespace": {"__post_init__": len}}), "does more than hold values"),
    ],
)  # fmt: skip
def test_a_difference_is_refused(registry: FolderRegistry, cls: type, says: str) -> None:
    with pytest.raises(SetupError) as caught:
        check_class(cls, registry.versions("things.made-value")[-1])
    assert says in str(caught.value)


def test_the_error_names_the_class_s_file_and_the_schema_s(tmp_path: Path) -> None:
    fields = [{"name": "name", "type": "string"}]
    registry = released(tmp_path, {"type": "record", "name": "Part", "topic": "parts", "fields": fields})

    @event("parts", key="name")
    class Part(msgspec.Struct, frozen=True):
        name: int

    with pytest.raises(SetupError, match=r"test_schema_class\.py:\d+: Part\.name .* \(schemas/test/Part/v1\.avsc\)"):
        check_class(Part, registry.versions("parts-value")[-1])


def test_an_annotation_that_is_no_type_is_refused(registry: FolderRegistry) -> None:
    with pytest.raises(SetupError, match="Everything"):
        check_class(variant(count="Missing"), registry.versions("things.made-value")[-1])
