"""`towpath top`: what the stages do, live.

The one rule: it only looks; it needs a plain terminal and no mouse, and what it does not know it does not show as 0.
"""
# ruff: noqa: D301, PLC0415  # `\b` is click's mark for text to be left as it is; slow imports wait until they are needed

import contextlib
import io
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import click

from streams.cli.invocation import interactive, invocation, json_line, say
from streams.cli.options import as_json
from streams.errors import SetupError

if TYPE_CHECKING:  # they load a client, and rich
    from rich.console import Group, RenderableType
    from rich.text import Text

    from streams.ops.figures import Row
    from streams.ops.watching import Watch
    from streams.topology import Topology

_WIDTH: Final = 118  # columns of a picture
_FONTS: Final = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)  # rich's are on somebody's server; any monospace one will do
_LATE: Final = 60.0  # seconds behind, from which on it is red


@click.command()
@click.argument("module")
@click.option(
    "--url", "urls", metavar="URL", multiple=True, help="A worker's address, or the lag exporter's; may be given several times."
)
@click.option("--topics", "straight", is_flag=True, help="Ask no worker: go by receipts and parking tables.")
@click.option("--every", type=click.FloatRange(0.2), default=2, show_default=True, help="Seconds between two looks.")
@click.option("--once", is_flag=True, help="Look twice, show what was between, and end.")
@click.option(
    "--svg", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="With --once: as a picture as well."
)
@as_json
def top(module: str, *, once: bool, svg: Path | None, json_: bool, **options: Any) -> None:
    """Show what each stage does, live, until Ctrl-C.

    Records in and out and transactions per second; how long a record takes from its timestamp to the commit (p99 of the last
    10 s); lag in records, and the age of the oldest of them; parked records and timers; open cases; members of the group; and
    what the stage waits for.

    Workers of this machine are found by themselves (those with the same TOWPATH_DIR); of others name the addresses. Lag and
    cases are asked of the cluster, if there is one. Without any worker's address all of it is read from the cluster: receipts
    and parking tables say what the stages do, though not how long a record takes.

    In a pipe, or with --json, there is one line for each stage and look.

    \b
    Examples:
      towpath top topologies.orders
      towpath top topologies.orders --url http://10.0.0.7:8080 --url http://10.0.0.8:8080
      towpath top topologies.orders --topics --once --json | jq 'select(.lag > 0)'
    """
    from streams.topology import load

    if svg is not None and not once:
        raise click.UsageError("--svg takes a picture of one look: add --once")
    topology = load(module)
    plain = json_ or not interactive()
    with _watch(topology, [address_of(url) for url in options["urls"]], straight=options["straight"]) as watch:
        with _screen(live=not plain and not once) as show:
            while True:
                time.sleep(options["every"])
                rows, note = watch.look()
                if plain:
                    for row in rows:
                        click.echo(json_line(row))
                else:
                    show(_view(topology.name, rows, note))
                if once:
                    break
        if svg is not None:
            _picture(svg, f"towpath top {module}", _view(topology.name, rows, note))


def address_of(url: str) -> str:
    """A worker's address as a URL without a page. Raises `UsageError`."""
    found = url if "//" in url else f"http://{url}"
    try:
        parts = urlsplit(found)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port is not False
    except ValueError:
        known = False
    if not known:
        raise click.UsageError(f"{url!r} is no address of a worker, such as http://127.0.0.1:8080")
    return found.removesuffix("/metrics").rstrip("/")


def _watch(topology: "Topology", urls: list[str], *, straight: bool) -> "Watch":
    """What looks. Raises `SetupError` if neither a worker nor a cluster is known."""
    from streams.ops.watching import Watch, Workers
    from streams.roster import listed

    home = invocation().settings().directory

    def found() -> list[str]:
        return urls or [entry.url for entry in listed(home, topology.name)]

    straight = straight or not found()
    try:
        cluster = invocation().cluster()
    except SetupError:
        if straight:
            raise
        cluster = None
    return Watch(topology, Workers(topology.name, found), cluster, straight=straight)


@contextlib.contextmanager
def _screen(*, live: bool) -> Iterator[Callable[["RenderableType"], None]]:
    """What shows a view: over the one before, on a screen of its own that is gone at the end; or below what is there."""
    from rich.console import Console
    from rich.live import Live

    console = Console()
    if not live:
        yield console.print
        return
    with contextlib.suppress(KeyboardInterrupt), Live(console=console, screen=True, auto_refresh=False) as screen:
        yield lambda view: screen.update(view, refresh=True)


def _view(topology: str, rows: Sequence["Row"], note: str) -> "Group":
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False, expand=False)
    table.add_column("stage", style="bold")
    cases = any(row.cases is not None for row in rows)
    for title in (
        "in/s",
        "out/s",
        "txn/s",
        "p99",
        "lag",
        "oldest",
        "parked",
        "timers",
        "cases" if cases else "dead",
        "members",
    ):
        table.add_column(title, justify="right", min_width=6)
    table.add_column("waits for", overflow="fold", max_width=40)
    for row in rows:
        table.add_row(*_cells(row, cases=cases))
    head = Text(f"{topology}  {time.strftime('%H:%M:%S')}", style="dim")
    return Group(head, table, *([Text(note, style="dim")] if note else []))


def _cells(row: "Row", *, cases: bool) -> Iterator["Text"]:
    from rich.text import Text

    def cell(text: str, style: str = "") -> Text:
        return Text(text, style=style)

    dead = row.cases if cases else row.dead
    yield cell(row.stage)
    for rate in (row.consumed, row.sent, row.transactions):
        yield cell(f"{rate:,.0f}" if rate >= 10 else f"{rate:,.1f}", "" if rate else "dim")
    yield cell("-" if row.p99 is None else _span(row.p99))
    yield cell("-" if row.lag is None else f"{row.lag:,}", "yellow" if row.lag else "")
    yield cell("-" if row.oldest is None else _span(row.oldest), "red" if (row.oldest or 0) > _LATE else "")
    yield cell(f"{row.parked:,}", "yellow" if row.parked else "")
    yield cell(f"{row.timers:,}")
    yield cell("-" if dead is None else f"{dead:,}", "red" if dead else "")
    yield cell("-" if row.members is None else str(row.members), "red" if row.members == 0 else "")
    yield cell(row.why.removeprefix("it waits for "), "yellow")


def _span(seconds: float) -> str:
    """As short as can be: 12 ms, 3.4 s, 5 min, 7 h."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.0f} h"


def _picture(path: Path, title: str, view: "RenderableType") -> None:
    """Write what is shown as an SVG."""
    from rich.console import Console

    console = Console(record=True, width=_WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(view)
    try:
        path.write_text(_FONTS.sub("", console.export_svg(title=title, unique_id="towpath-top")), "utf-8")
    except OSError as error:
        raise SetupError(f"cannot write: {error.strerror}", where=str(path), fix="name another file") from None
    say(f"{path} shows it")
