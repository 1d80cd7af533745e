"""The folder of schemas as a registry: what it answers, and what it refuses to start with."""

import copy
from pathlib import Path
from typing import Any

import pytest

from streams.errors import SetupError
from streams.registry import LOCK, FolderRegistry
from tests.property.contracts import EVERYTHING, released, write_schema

SECOND: dict[str, Any] = copy.deepcopy(EVERYTHING)
SECOND["fields"].append({"name": "extra", "type": "long", "default": 0})


def touch_up(path: Path) -> None:
    path.write_text(path.read_text() + "\n")


def test_it_answers_by_id_and_by_subject(tmp_path: Path) -> None:
    registry = released(tmp_path, EVERYTHING, SECOND)
    first, second = registry.versions("things.made-value")
    assert (first.schema.version, second.schema.version) == (1, 2)
    assert registry.find(2) == second
    assert registry.find(3) is None
    assert registry.versions("other-value") == ()


def test_a_schema_that_is_not_locked_is_refused(tmp_path: Path) -> None:
    released(tmp_path, EVERYTHING)
    write_schema(tmp_path, SECOND, 2)
    with pytest.raises(SetupError, match=r"v2\.avsc: the schema is not released; run `towpath schemas lock`"):
        FolderRegistry(tmp_path)


@pytest.mark.parametrize(
    "change", [lambda path: path.write_text(path.read_text() + "\n"), Path.unlink], ids=["changed", "gone"]
)
def test_a_released_schema_that_is_not_what_it_was_is_refused(tmp_path: Path, change: Any) -> None:
    released(tmp_path, EVERYTHING)
    change(tmp_path / "test/Everything/v1.avsc")
    with pytest.raises(SetupError, match=r"v1\.avsc: a released schema (was changed|is gone)"):
        FolderRegistry(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("1\t", "2\t", "LOCK:1: ids or versions do not count up"),
        ("\t1\t", "\t2\t", "LOCK:1: ids or versions do not count up"),
        ("1\t", "one\t", "LOCK:1: not five fields"),
        ("\t", " ", "LOCK:1: not five fields"),
        ("things.made-value", "things.lost-value", "a released schema was changed"),
    ],
)
def test_a_lock_that_was_edited_is_refused(tmp_path: Path, old: str, new: str, says: str) -> None:
    released(tmp_path, EVERYTHING)
    lock = tmp_path / LOCK
    lock.write_text(lock.read_text().replace(old, new, 1))
    with pytest.raises(SetupError) as caught:
        FolderRegistry(tmp_path)
    assert says in str(caught.value)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no folder of schemas"):
        FolderRegistry(tmp_path / "missing")
