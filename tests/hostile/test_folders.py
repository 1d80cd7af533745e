"""Spoiled folders of schemas through `towpath schemas check` and `lock`: each is refused in words, and nothing is released."""

import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from streams.cli import main
from streams.registry import LOCK
from streams.release import bring_ours, lock_schemas
from tests.hostile.folders import FOLDERS, Spoiled, put, thing


class Called(msgspec.Struct):
    """How a command ended and what it wrote."""

    code: object
    said: str


Towpath = Callable[..., Called]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound one."""
    put(tmp_path, thing())
    lock_schemas(tmp_path)
    bring_ours(tmp_path)
    lock_schemas(tmp_path)
    return tmp_path


@pytest.fixture
def towpath(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Towpath:
    def call(*arguments: str) -> Called:
        monkeypatch.setattr(sys, "argv", ["towpath", "schemas", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return Called(end.value.code, captured.out + captured.err)

    return call


def test_a_sound_folder_is_taken(folder: Path, towpath: Towpath) -> None:
    assert towpath("check", "--schemas", str(folder)).code in (0, None)
    assert towpath("lock", "--schemas", str(folder)).code in (0, None)


@pytest.mark.parametrize("case", FOLDERS, ids=lambda case: case.name)
def test_a_spoiled_folder_is_refused_in_words(folder: Path, towpath: Towpath, case: Spoiled) -> None:
    case.spoil(folder)
    lock = (folder / LOCK).read_bytes() if (folder / LOCK).exists() else b""
    verbs = ("check",) if case.check_only else ("check", "lock")
    called = [towpath(verb, "--schemas", str(folder)) for verb in verbs]
    for one in called:
        assert one.code in (1, 2), one.said
        assert "Traceback" not in one.said
    assert any(case.says in one.said for one in called), [one.said for one in called]
    assert not (folder / LOCK).exists() or (folder / LOCK).read_bytes() == lock
