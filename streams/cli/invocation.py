"""What one call of `towpath` was told: its settings, and how it speaks.

The one rule: results go to stdout and everything else to stderr, so that a pipe gets results only.
"""
# ruff: noqa: PLC0415  # librdkafka and rich are imported where they are used, so that the rest answers at once

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click
import msgspec

from streams.config import Settings
from streams.errors import SetupError


class Invocation:
    """The global options of one call, and the settings that follow from them."""

    def __init__(self, bootstrap: str | None) -> None:
        self.bootstrap = bootstrap

    def settings(self) -> Settings:
        """The settings, whether or not a cluster is known."""
        settings = Settings.load()
        known = self.bootstrap or settings.bootstrap or settings.kafka.get("bootstrap.servers", "")
        others = {name: value for name, value in settings.kafka.items() if name != "bootstrap.servers"}
        return msgspec.structs.replace(settings, bootstrap=known, kafka=others)

    def cluster(self) -> Settings:
        """The settings with a cluster: the one that was named, else the local Kafka if it is up; else `SetupError`."""
        settings = self.settings()
        if settings.bootstrap:
            return settings
        from streams import local

        bootstrap = local.status(settings.directory)["bootstrap"]
        if not bootstrap:
            raise SetupError(
                "no Kafka is named and none runs here",
                fix="start one with `towpath up`, or name one with --bootstrap or TOWPATH_BOOTSTRAP",
            )
        say(f"using the local Kafka at {bootstrap}")
        return msgspec.structs.replace(settings, bootstrap=bootstrap)


def invocation() -> Invocation:
    """That of the running command."""
    found = click.get_current_context().find_object(Invocation)
    assert found is not None, "the group makes it before any command runs"  # noqa: S101  # for mypy; cannot be None
    return found


def say(text: str) -> None:
    """Tell the user something that is no result."""
    click.echo(f"towpath: {text}", err=True)


def complain(text: str) -> None:
    """Tell the user what is wrong."""
    click.echo(f"{click.style('towpath:', fg='red', bold=True)} {text}", err=True)


def interactive() -> bool:
    """Whether results go to a terminal."""
    return sys.stdout.isatty()


def json_line(value: Any) -> str:
    """One value as one line of JSON."""
    return msgspec.json.encode(value).decode()


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Show rows: a table on a terminal, in a pipe one JSON object each."""
    if not interactive():
        for row in rows:
            click.echo(json_line(dict(zip(titles, row, strict=True))))
        return
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        shown.add_column(title, overflow="fold")
    for row in rows:
        shown.add_row(*row)
    Console().print(shown, markup=False)
