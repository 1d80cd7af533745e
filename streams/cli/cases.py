"""`towpath cases`: what has died, why, and what was decided of it.

The one rule: what is in this file only looks. Nobody is fenced by it, and nothing is written.
"""
# ruff: noqa: D301, PLC0415  # `\b` is click's mark for text to be left as it is; slow imports wait until they are needed

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
import msgspec

from streams.cli.decide import dismiss, edit, import_, redrive
from streams.cli.invocation import interactive, invocation, json_line, say, table
from streams.cli.options import as_json, chosen, filters

if TYPE_CHECKING:  # they load a client
    from streams.dead import Case
    from streams.record import Record


class _Cases(click.Group):
    """A group whose name alone, with a module, is a command too."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            args = ["groups", *args]
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0].startswith("-") and args[0] not in ctx.help_option_names:
            args = ["groups", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Cases, subcommand_metavar="MODULE | COMMAND MODULE [ARGS]…")
def cases() -> None:
    """Look at records that died, and redrive, edit or dismiss them.

    A record that a stage cannot handle goes to the stage's dead letters and opens a case. `towpath cases MODULE` groups
    the open ones by stage and fingerprint (the error's type and the handler's top frame). What is decided of a case is
    recorded with it: who, when and why.

    A case is open, then redriven (its record is on its way to the stage again), then resolved, or open again if it died
    again; or dismissed. Operators decide open cases; redriven ones are the stage's.

    Two operators cannot decide one case twice: the one who begins later takes over, and the earlier call ends with exit
    code 3 and nothing half done. A call that was killed can be repeated. Looking takes over from nobody.

    CASE is a case's id, or as much of its beginning as only one has.

    \b
    Exit codes:
      0 done; also when no open case is like the filters
      1 done, but not with every case: some failed, or were open no more, or the canary did not succeed
      2 could not be done; stderr says why
      3 another operator has taken over, or a commit got no answer: look again what is open

    \b
    Examples:
      towpath cases topologies.orders
      towpath cases list topologies.orders --stage payment --since 2h
      towpath cases show topologies.orders 3f9c
      towpath cases redrive topologies.orders --stage payment --canary 5 --reason 'fixed in 1.4' --yes
    """


cases.add_command(redrive)
cases.add_command(edit)
cases.add_command(dismiss)
cases.add_command(import_)


@cases.command("groups")
@click.argument("module")
@filters
@as_json
def show_groups(module: str, *, json_: bool, **options: Any) -> None:
    """Group open cases by stage and fingerprint: the same as `towpath cases MODULE`.

    \b
    Example:
      towpath cases topologies.orders --since 1d
    """
    from streams.ops.cases import Book, groups
    from streams.topology import load

    with Book(invocation().cluster(), load(module)) as book:
        book.read()
        found = groups(chosen((), options, book).choose(book.cases))
    if json_ or not interactive():
        for group in found:
            click.echo(json_line(group))
        return
    now = datetime.now(UTC)
    rows = [
        (
            group.stage,
            group.fingerprint,
            f"{group.cases:,}",
            _ago(group.first_seen, now),
            _ago(group.last_seen, now),
            _shown(group.message),
        )
        for group in found
    ]
    if rows:
        table(("stage", "fingerprint", "cases", "first seen", "last seen", "last message"), rows)
    else:
        say("no open cases")


@cases.command("list")
@click.argument("module")
@filters
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(["open", "redriven", "resolved", "dismissed", "all"]),
    help="Cases in this state; may be given again. Default: open.",
)
@as_json
def list_cases(module: str, *, json_: bool, states: tuple[str, ...], **options: Any) -> None:
    """List cases, the longest dead first.

    JSON lines hold all that a case has: its id, stage, state, place, key, error, times (UTC) and decisions.

    \b
    Examples:
      towpath cases list topologies.orders --stage inventory --key order-17
      towpath cases list topologies.orders --state dismissed --json | jq .decisions
    """
    from streams.dead import State
    from streams.ops.cases import Book, as_dict
    from streams.topology import load

    wanted = frozenset(State if "all" in states else map(State, states or ("open",)))
    with Book(invocation().cluster(), load(module)) as book:
        book.read()
        found = chosen((), options, book, wanted).choose(book.cases)
    if json_ or not interactive():
        for case in found:
            click.echo(json_line(as_dict(case)))
        return
    now = datetime.now(UTC)
    rows = [
        (case.case_id[:12], case.state.value, case.stage, _key(case), _ago(case.last_failed_at, now), _shown(_error(case)))
        for case in found
    ]
    if rows:
        table(("case", "state", "stage", "key", "died", "error"), rows)
    else:
        say("no such cases")


@cases.command("show")
@click.argument("module")
@click.argument("case_id", metavar="CASE")
@as_json
def show_case(module: str, case_id: str, *, json_: bool) -> None:
    """Show one case: its record, decoded if it can be, with headers and trace, and every decision.

    JSON is one object: `case`; `record` with its headers and, decoded, `event` and `value`, or `undecodable` and the bytes
    as `value`; `edited` likewise, if an operator has put another value in its place; `trace_id`.

    \b
    Example:
      towpath cases show topologies.orders 3f9c
    """
    from streams.ops.cases import Book, as_dict, as_event, full_id, trace_id
    from streams.ops.show import as_json as record_json
    from streams.topology import load

    with Book(invocation().cluster(), load(module)) as book:
        book.read()
        case = book.cases[full_id(book.cases, case_id)]
        record = next((found for _, found in book.letters([case])), None)
        shown = {
            "case": as_dict(case),
            "record": msgspec.Raw(record_json(record, book.registry).encode()) if record else None,
            "edited": as_event(case.edited_value, book.registry) if case.edited_value is not None else None,
            "trace_id": trace_id(record) if record else None,
        }
    if json_ or not interactive():
        click.echo(json_line(shown))
    else:
        _show(case, record, shown)


def _show(case: "Case", record: "Record | None", shown: dict[str, Any]) -> None:
    from streams.ops.show import safe

    lines = {
        "case": click.style(case.case_id, bold=True) + f"  {case.state.value}",
        "stage": case.stage,
        "record": f"{case.topic}[{case.partition}]@{case.offset}  key {_key(case)}",
        "event id": _shown(case.event_id),
        "trace": shown["trace_id"] or "none",
        "error": click.style(_shown(_error(case)), fg="red"),
        "verdict": f"{case.verdict} after {case.attempts} attempt{'' if case.attempts == 1 else 's'}",
        "fingerprint": _shown(case.fingerprint),
        "failed": f"{case.first_failed_at:%Y-%m-%d %H:%M:%S} to {case.last_failed_at:%Y-%m-%d %H:%M:%S} UTC",
    }
    for title, line in lines.items():
        click.echo(f"{title + ':':<13}{line}")
    if record is None:
        click.echo("its dead letter is no longer kept")
    else:
        for name, value in record.headers:
            click.echo(f"{'header:':<13}{safe(name.encode())} = {safe(value)}")
        _show_value("value", msgspec.json.decode(shown["record"]), record.value)
    if shown["edited"] is not None:
        _show_value("edited value", shown["edited"], case.edited_value)
    for decision in case.decisions:
        why = f": {_shown(decision.why)}" if decision.why else ""
        click.echo(f"{decision.at:%Y-%m-%d %H:%M:%S} {decision.what} by {_shown(decision.who)}{why}")


def _show_value(title: str, value: dict[str, Any], raw: bytes | None) -> None:
    """A decoded value as JSON, other text as it is, other bytes in hex."""
    from streams.ops.show import safe

    if "undecodable" in value:
        click.echo(f"{title}: {click.style('undecodable: ' + _shown(value['undecodable']), fg='red')}")
        click.echo(f"  {safe(raw) if isinstance(value['value'], str) else (raw or b'').hex(' ')}")
    else:
        click.echo(f"{title}: {click.style(str(value.get('event')), fg='cyan')}")
        for line in msgspec.json.format(msgspec.json.encode(value["value"]), indent=2).decode().splitlines():
            click.echo(f"  {_shown(line)}")


def _key(case: "Case") -> str:
    from streams.ops.show import safe

    return safe(case.key)


def _error(case: "Case") -> str:
    return f"{case.error}: {case.message}"


def _shown(words: str) -> str:
    """Text as a terminal may get it."""
    from streams.ops.show import safe

    return safe(words.encode("utf-8", "replace"))


def _ago(then: datetime, now: datetime) -> str:
    """How long ago, in its largest unit."""
    seconds = max(int((now - then).total_seconds()), 0)
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length}{unit} ago"
    return f"{seconds}s ago"
