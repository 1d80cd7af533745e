"""LOCK only grows: what `towpath schemas check` and `towpath schemas lock` find, write and refuse."""

import copy
import hashlib
from pathlib import Path
from typing import Any

import pytest

from streams.errors import SetupError
from streams.registry import LOCK, default_folder, read_lock
from streams.release import check_schemas, lock_schemas
from tests.property.contracts import EVERYTHING, PART, released, write_schema

RELEASED = 9
RELEASED_SHA256 = "839afe738f965cc335944515c3fd476474c2550b3c645c2d307d0feaf5247a27"


def touch_up(path: Path) -> None:
    path.write_text(path.read_text() + "\n")


def grown(*fields: dict[str, Any], **changed: Any) -> dict[str, Any]:
    raw: dict[str, Any] = copy.deepcopy(EVERYTHING)
    raw["fields"] = [{**field, "type": changed.get(field["name"], field["type"])} for field in raw["fields"]] + list(fields)
    return raw


def test_the_released_lines_stand_as_they_were() -> None:
    # After a release: raise the number and put in the new sum. A changed old line is a changed contract: never do it for that.
    lines = (default_folder() / LOCK).read_bytes().splitlines(keepends=True)
    assert hashlib.sha256(b"".join(lines[:RELEASED])).hexdigest() == RELEASED_SHA256


def test_every_schema_of_ours_is_locked_and_compatible() -> None:
    assert lock_schemas(default_folder(), dry_run=True) == []
    assert check_schemas(default_folder()) == []


def test_lock_appends_and_keeps_what_was_there(tmp_path: Path) -> None:
    released(tmp_path, EVERYTHING)
    before = (tmp_path / LOCK).read_text()
    path = write_schema(tmp_path, grown({"name": "extra", "type": ["null", "string"], "default": None}), 2)
    write_schema(tmp_path, {**PART, "topic": "parts"})
    new = lock_schemas(tmp_path)
    assert [(line.id, line.subject, line.version) for line in new] == [(2, "things.made-value", 2), (3, "parts-value", 1)]
    assert new[0].sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (tmp_path / LOCK).read_text() == before + "".join(f"{line}\n" for line in new)
    assert read_lock(tmp_path)[1:] == new


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    write_schema(tmp_path, EVERYTHING)
    assert [line.path for line in lock_schemas(tmp_path, dry_run=True)] == ["test/Everything/v1.avsc"]
    assert not (tmp_path / LOCK).exists()


@pytest.mark.parametrize(
    "change", [lambda path: path.write_text(path.read_text() + "\n"), Path.unlink], ids=["changed", "gone"]
)
def test_lock_refuses_where_a_released_schema_is_not_what_it_was(tmp_path: Path, change: Any) -> None:
    released(tmp_path, EVERYTHING)
    path = write_schema(tmp_path, EVERYTHING)
    before = (tmp_path / LOCK).read_bytes()
    change(path)
    with pytest.raises(SetupError, match=r"Everything/v1\.avsc: a released schema (was changed|is gone); restore the file"):
        lock_schemas(tmp_path)
    assert (tmp_path / LOCK).read_bytes() == before


def test_lock_refuses_a_gap_between_versions(tmp_path: Path) -> None:
    released(tmp_path, EVERYTHING)
    write_schema(tmp_path, EVERYTHING, 3)
    with pytest.raises(SetupError, match=r"version 3 comes after 1; name it v2\.avsc"):
        lock_schemas(tmp_path)


def test_lock_refuses_a_second_record_of_a_topic(tmp_path: Path) -> None:
    released(tmp_path, EVERYTHING)
    write_schema(tmp_path, {**PART, "topic": "things.made"})
    with pytest.raises(SetupError, match=r"the topic things\.made has another record"):
        lock_schemas(tmp_path)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (grown({"name": "extra", "type": "string"}), "v2.avsc cannot read version 1"),
        (grown(count="string"), "v1.avsc cannot read version 2"),
        (grown(count=["null", "long"]), "v1.avsc cannot read version 2"),
        (
            grown(colour={"type": "enum", "name": "Colour", "symbols": ["red", "green", "blue"]}),
            "v1.avsc cannot read version 2",
        ),
        (grown(count={"type": "long", "logicalType": "timestamp-millis"}), "count is timestamp, in version 1 long"),
        (grown(blob="string"), "blob is string, in version 1 bytes"),
        ({**EVERYTHING, "topic": "things.other"}, "its topic is things.other, that of version 1 is things.made"),
    ],
)
def test_an_incompatible_version_is_found_and_not_locked(tmp_path: Path, changed: dict[str, Any], says: str) -> None:
    released(tmp_path, EVERYTHING)
    write_schema(tmp_path, changed, 2)
    assert says in "\n".join(check_schemas(tmp_path))
    with pytest.raises(SetupError):
        lock_schemas(tmp_path)
    assert len(read_lock(tmp_path)) == 1


def test_every_pair_of_versions_is_compared(tmp_path: Path) -> None:
    # the third reads the second and not the first: a new field may have no default once the second has it
    extra = {"name": "extra", "type": "long"}
    for version, raw in enumerate([EVERYTHING, grown({**extra, "default": 0}), grown(extra)], 1):
        write_schema(tmp_path, raw, version)
    assert [problem.split(":")[0] for problem in check_schemas(tmp_path)] == ["test/Everything/v3.avsc cannot read version 1"]
