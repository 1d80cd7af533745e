"""`towpath reconcile`: proof that nothing was lost or doubled.

The one rule: it changes nothing. Exit 0 says that all that can be known adds up, 1 that something does not, 2 that it could
not be checked.
"""
# ruff: noqa: D301, PLC0415  # `\b` is click's mark for text to be left as it is; slow imports wait until they are needed

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streams.cli.invocation import interactive, invocation, json_line, say, table
from streams.cli.options import as_json
from streams.errors import SetupError

if TYPE_CHECKING:  # it loads a client
    from streams.ops.reconcile.findings import Result

_SHOWN = 100


@click.command()
@click.argument("module")
@click.option("--since", metavar="TIME", help="Differences since then: 2024-05-31T08:00 (UTC), or an age: 30m, 2h, 7d.")
@click.option("--until", metavar="TIME", help="Differences until then.")
@click.option(
    "--back", metavar="AGE", default="1d", show_default=True, help="With --since: how far before it causes are looked for."
)
@click.option("--stage", "stages", metavar="STAGE", multiple=True, help="Of this stage only; may be given several times.")
@click.option(
    "--statement", "statements", metavar="FILE", multiple=True, type=click.Path(dir_okay=False, path_type=Path),
    help="The payment provider's statement, a CSV; may be given several times.",
)  # fmt: skip
@click.option(
    "--database",
    "databases",
    metavar="URL",
    multiple=True,
    help="The stages' database. Default: TOWPATH_STORE, if it is there.",
)
@click.option("--no-database", is_flag=True, help="Compare topics and statements only.")
@click.option(
    "--report", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write a report, one HTML file."
)
@click.option(
    "--metrics",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the figures for Prometheus: a text file, for node exporter or `towpath lag --serve --include`.",
)
@as_json
def reconcile(module: str, **options: Any) -> None:
    """Prove from receipts and topics that each event was handled once, and name whatever does not add up.

    Ranges of receipts join; what was consumed has outputs, a parked record, a case, or a receipt that there is nothing; each
    output has its cause; no id is there twice. The application's books are compared as well: orders, stock, payments, the
    provider's statement, notifications.

    Reads the live flow on one cut; joins no group and changes nothing. What is on its way is open, not a difference; what
    retention has removed is not checkable. Exit 0: all adds up, 1: something differs, 2: it could not be checked.

    \b
    Examples:
      towpath reconcile topologies.orders
      towpath reconcile topologies.orders --since 2h --report reconciled.html
      towpath reconcile topologies.orders --statement 2026-11-23.csv --json | jq .differences
    """
    from streams.ops.reconcile.ledger import Ledger
    from streams.ops.reconcile.metrics import write
    from streams.ops.reconcile.report import report
    from streams.ops.reconcile.source import reconcile as prove
    from streams.topology import load

    topology = load(module)
    began = time.time()
    for name in options["stages"]:
        topology.stage(name)
    call = invocation()
    settings = call.cluster()
    since, until, start = _range(options)
    databases = () if options["no_database"] else options["databases"] or _usual(settings.store)
    with tempfile.TemporaryDirectory(prefix="towpath-reconcile-") as folder, _progress() as seen:
        ledger = Ledger(topology, Path(folder), databases, options["statements"])
        try:
            result = prove(settings, ledger, start=start, seen=seen)
        finally:
            ledger.close()
    _limit(result, since, until, options["stages"])
    if options["report"] is not None:
        try:
            options["report"].write_text(report(result, topology), "utf-8")
        except OSError as error:
            raise SetupError(f"cannot write: {error.strerror}", where=str(options["report"]), fix="name another file") from None
    if options["metrics"] is not None:
        write(options["metrics"], result, time.time() - began, time.time())
    _show(result, json=options["json_"] or not interactive())
    click.get_current_context().exit(1 if result.differences else 0)


def _usual(store: str) -> tuple[str, ...]:
    """The stages' database, unless it is a file that is not here."""
    path = store.removeprefix("sqlite:///")
    if path != store and not Path(path).exists():
        say(f"there is no {path}: the books are compared without a database")
        return ()
    return (store,)


def _range(options: dict[str, Any]) -> tuple[int | None, int | None, int | None]:
    """Since, until, and where reading begins, in milliseconds since the epoch."""
    from streams.ops.cases import moment

    now = datetime.now(UTC)
    since, until = (moment(options[name], now) if options[name] else None for name in ("since", "until"))
    if since and until and since >= until:
        raise SetupError("--since is not before --until", fix="swap them")
    start = since - (now - moment(options["back"], now)) if since else None
    first, last, begin = (None if at is None else int(at.timestamp() * 1000) for at in (since, until, start))
    return first, last, begin


def _limit(result: "Result", since: int | None, until: int | None, stages: tuple[str, ...]) -> None:
    """Leave what is asked for. A difference without a time is of now."""
    result.differences = [
        each
        for each in result.differences
        if (since is None or each.at is None or each.at >= since)
        and (until is None or each.at is None or each.at < until)
        and (not stages or each.where.partition(":")[0] in stages)
    ]
    result.open = [each for each in result.open if not stages or each.stage in stages]


def _show(result: "Result", *, json: bool) -> None:
    from streams.ops.reconcile.report import row, when

    if json:
        click.echo(json_line(result))
        return
    titles = ("kind", "where", "what", "ours", "theirs", "to repair it", "when")
    if result.differences:
        table(titles, [row(each) for each in result.differences[:_SHOWN]])
        if (more := len(result.differences) - _SHOWN + result.unlisted) > 0:
            say(f"{more:,} more: see them with --json or --report")
    for each in result.open:
        say(f"{each.stage}: {each.count:,} {each.state}" + (f", the oldest since {when(each.oldest)}" if each.oldest else ""))
    for why, count in result.unknown.items():
        say(f"not checkable: {count:,} {why}")
    found = len(result.differences) + result.unlisted
    events = f"{sum(result.counts.values()):,} events, {result.receipts:,} receipts"
    click.echo(f"{events}: {found:,} differences" if found else f"{events}: no differences")


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int, int], object] | None]:
    """A callable that shows how much has been read, if somebody watches."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TextColumn("records"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=max(total, done))
