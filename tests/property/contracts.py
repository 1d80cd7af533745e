"""What the tests of contracts share: strategies for events, and one event that holds a value of every kind."""

import json
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import msgspec.inspect as mi
from hypothesis import strategies as st

from streams.codec import Codec
from streams.contract import plain_type
from streams.record import event
from streams.registry import FolderRegistry
from streams.release import lock_schemas
from streams.schema import Node
from streams.varint import EPOCH, MAX_MILLIS, MIN_MILLIS
from topologies.orders import events as orders

ORDER_EVENTS: list[type] = [cls for cls in vars(orders).values() if isinstance(cls, type) and hasattr(cls, "__event__")]


class Colour(Enum):
    RED = "red"
    GREEN = "green"


class Part(msgspec.Struct, frozen=True):
    name: str
    tags: tuple[str, ...]


@event("things.made", key="name")
class Everything(msgspec.Struct, frozen=True):
    """A value of every kind that a schema may hold."""

    name: str
    flag: bool
    count: int
    share: float
    blob: bytes
    at: datetime
    colour: Colour
    parts: tuple[Part, ...]
    grid: tuple[tuple[int, ...], ...]
    labels: dict[str, str]
    named: dict[str, Part]
    note: str | None = None
    spare: Part | None = None
    seen: datetime | None = None
    second: Colour | None = None
    numbers: tuple[int, ...] | None = None
    limit: int = 10
    kind: str = "plain"
    rest: tuple[int, ...] = ()


PART = {
    "type": "record",
    "name": "Part",
    "fields": [{"name": "name", "type": "string"}, {"name": "tags", "type": {"type": "array", "items": "string"}}],
}
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
EVERYTHING = {
    "type": "record",
    "name": "Everything",
    "namespace": "test",
    "topic": "things.made",
    "fields": [
        {"name": "name", "type": "string"},
        {"name": "flag", "type": "boolean"},
        {"name": "count", "type": "long"},
        {"name": "share", "type": "double"},
        {"name": "blob", "type": "bytes"},
        {"name": "at", "type": MILLIS},
        {"name": "colour", "type": {"type": "enum", "name": "Colour", "symbols": ["red", "green"]}},
        {"name": "parts", "type": {"type": "array", "items": PART}},
        {"name": "grid", "type": {"type": "array", "items": {"type": "array", "items": "long"}}},
        {"name": "labels", "type": {"type": "map", "values": "string"}},
        {"name": "named", "type": {"type": "map", "values": "Part"}},
        {"name": "note", "type": ["null", "string"], "default": None},
        {"name": "spare", "type": ["null", "Part"], "default": None},
        {"name": "seen", "type": ["null", MILLIS], "default": None},
        {"name": "second", "type": ["null", "Colour"], "default": None},
        {"name": "numbers", "type": ["null", {"type": "array", "items": "long"}], "default": None},
        {"name": "limit", "type": "long", "default": 10},
        {"name": "kind", "type": "string", "default": "plain"},
        {"name": "rest", "type": {"type": "array", "items": "long"}, "default": []},
    ],
}


def write_schema(root: Path, raw: dict[str, Any], version: int = 1, group: str = "test") -> Path:
    """Put a schema where the folder's loader looks for it."""
    path: Path = root / group / str(raw["name"]) / f"v{version}.avsc"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(raw), encoding="utf-8")
    return path


def released(root: Path, *versions: dict[str, Any]) -> FolderRegistry:
    """A folder that holds these versions of one record, all locked."""
    for number, raw in enumerate(versions, 1):
        write_schema(root, raw, number)
    lock_schemas(root)
    return FolderRegistry(root)


def order_codec() -> Codec:
    return Codec(ORDER_EVENTS, FolderRegistry())


LONGS = st.integers(-(2**63), 2**63 - 1) | st.integers(-100, 20_000)
TIMES = st.integers(MIN_MILLIS, MAX_MILLIS).map(lambda millis: EPOCH + timedelta(milliseconds=millis))


def values(type_: mi.Type) -> st.SearchStrategy[Any]:
    """Any value of a type that an event class may have."""
    type_, optional = plain_type(type_)
    simple: dict[type, st.SearchStrategy[Any]] = {
        mi.StrType: st.text(),
        mi.IntType: LONGS,
        mi.BoolType: st.booleans(),
        mi.FloatType: st.floats(allow_nan=False),
        mi.BytesType: st.binary(),
        mi.DateTimeType: TIMES,
    }
    if isinstance(type_, mi.StructType):
        found: st.SearchStrategy[Any] = st.builds(type_.cls, **{field.name: values(field.type) for field in type_.fields})
    elif isinstance(type_, mi.VarTupleType):
        found = st.lists(values(type_.item_type), max_size=5).map(tuple)
    elif isinstance(type_, mi.DictType):
        found = st.dictionaries(st.text(), values(type_.value_type), max_size=4)
    elif isinstance(type_, mi.EnumType):
        found = st.sampled_from(list(type_.cls))
    else:
        found = simple[type(type_)]
    return st.none() | found if optional else found


@cache
def events(cls: type) -> st.SearchStrategy[Any]:
    """Any event of a class."""
    return values(mi.type_info(cls))


def data_of(node: Node) -> st.SearchStrategy[Any]:
    """Any value of a schema, as fastavro writes it."""
    simple: dict[str, st.SearchStrategy[Any]] = {
        "string": st.text(),
        "long": LONGS,
        "boolean": st.booleans(),
        "double": st.floats(allow_nan=False),
        "bytes": st.binary(),
        "timestamp": TIMES,
        "enum": st.sampled_from(node.symbols or ("",)),
    }
    if node.kind == "record":
        found: st.SearchStrategy[Any] = st.fixed_dictionaries({field.name: data_of(field.node) for field in node.fields})
    elif node.kind == "array":
        found = st.lists(data_of(node.items), max_size=4)
    elif node.kind == "map":
        found = st.dictionaries(st.text(), data_of(node.items), max_size=4)
    else:
        found = simple[node.kind]
    return st.none() | found if node.optional else found


SAMPLE = Everything(
    name="a", flag=True, count=-1, share=0.5, blob=b"\xff", at=datetime(2017, 1, 1, tzinfo=UTC), colour=Colour.GREEN,
    parts=(Part("p", ("x", "é")),), grid=((1, 2), ()), labels={"k": "v"}, named={"n": Part("q", ())},
)  # fmt: skip
