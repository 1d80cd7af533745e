"""Options that the commands on cases share, and what follows from them.

The one rule: the same words choose the same cases, whatever is then done with them.
"""
# ruff: noqa: PLC0415  # slow imports wait until they are needed

import contextlib
import getpass
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:  # they load a client
    from streams.dead import State
    from streams.ops.cases import Book, Filters

F = TypeVar("F", bound=Callable[..., Any])

who = click.option("--who", metavar="NAME", help="Who decides, for the record. Default: you@this-host.")
reason = click.option("--reason", metavar="TEXT", default="", help="Why, for the record.")
yes = click.option("--yes", is_flag=True, help="Do not ask.")
dry_run = click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
as_json = click.option("--json", "json_", is_flag=True, help="JSON, as in a pipe.")


def filters(command: F) -> F:
    """The options that choose cases."""
    for option in (
        click.option("--since", metavar="TIME", help="That died since then: 2024-05-31T08:00 (UTC), or an age: 30m, 2h, 7d."),
        click.option("--key", metavar="KEY", help="Of this key."),
        click.option("--fingerprint", metavar="TEXT", help="Of this fingerprint, as `towpath cases MODULE` shows it."),
        click.option("--stage", metavar="STAGE", help="Of this stage."),
    ):
        command = option(command)
    return command


def chosen(ids: tuple[str, ...], options: dict[str, Any], book: "Book", states: "frozenset[State] | None" = None) -> "Filters":
    """The filters that the options make; open cases unless `states` says otherwise. Raises `SetupError`."""
    from streams.dead import State
    from streams.ops.cases import Filters, moment

    if options["stage"] is not None:
        book.topology.stage(options["stage"])
    since = moment(options["since"], datetime.now(UTC)) if options["since"] else None
    wanted = states or frozenset({State.OPEN})
    return Filters(ids, options["stage"], options["fingerprint"], options["key"], since, wanted)


def me() -> str:
    """Who runs this, where."""
    name = "unknown"
    with contextlib.suppress(OSError, KeyError, ImportError):  # a container's user may have no name
        name = getpass.getuser()
    return f"{name}@{socket.gethostname()}"
