"""`towpath send` and `towpath tail`: events in, events out, by hand.

The one rule: a line or record that is no event is shown as what it is, and the rest goes on.
"""
# ruff: noqa: D301, PLC0415  # `\b` is click's mark for text to be left as it is; slow imports wait until they are needed

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from streams.cli.contracts import folder, schemas_folder
from streams.cli.invocation import complain, interactive, invocation, json_line, say
from streams.errors import SetupError
from streams.record import event_info
from streams.topology import Topology, load


@click.command()
@click.argument("module")
@click.argument("event")
@click.argument("file")
@click.option(
    "--rate", type=click.FloatRange(0, min_open=True), help="Lines per second, steadily. Default: as fast as it goes."
)
def send(module: str, event: str, file: str, rate: float | None) -> None:
    """Publish events from a FILE of JSON lines, plain or gzipped; `-` is stdin.

    EVENT is the event's class name or its topic. Each line must be a sound event of that class: fields, types and ranges
    are checked, unknown fields refused. A line that is not is reported with its number and left out, and the exit code is
    1 at the end. Every event is acknowledged by all replicas, and published once whatever the network does.

    \b
    Examples:
      towpath send topologies.orders OrderSubmitted orders.jsonl.gz --rate 100
      jq -c .order orders.json | towpath send topologies.orders orders.submitted -
    """
    from streams.ops.send import Sender, lines

    topology = load(module)
    chosen = _event(topology, event)
    settings = invocation().cluster()
    sender = Sender(settings, topology, chosen, lambda number, why: complain(f"{file}:{number}: {why}"))
    result = sender.result
    try:
        with _progress(event_info(chosen).topic) as seen:
            sender.send(lines(file, sys.stdin.buffer), rate=rate, seen=seen)
    finally:  # also after Ctrl-C: what has gone has gone
        if interactive():
            click.echo(
                f"{result.sent:,} events to {result.topic} in {result.seconds:.1f} s"
                f" ({result.sent / max(result.seconds, 1e-3):,.0f}/s)" + (f", {result.bad:,} bad lines" if result.bad else "")
            )
        else:
            click.echo(json_line(result))
    click.get_current_context().exit(1 if result.bad else 0)


def _event(topology: Topology, name: str) -> type:
    for cls in topology.events:
        if name in (cls.__name__, event_info(cls).topic):
            return cls
    known = ", ".join(f"{cls.__name__} ({event_info(cls).topic})" for cls in topology.events)
    raise SetupError(f"topology {topology.name!r} has no event {name!r}", fix=f"use one of: {known}")


@contextlib.contextmanager
def _progress(what: str) -> Iterator[Any]:
    """A callable that shows how many lines have been read, if somebody watches."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        MofNCompleteColumn(),
        TextColumn("lines"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda count: progress.update(task, completed=count)


@click.command()
@click.argument("names", metavar="TOPIC…", nargs=-1, required=True)
@click.option("--from-beginning", is_flag=True, help="Start with the oldest record. Default: only what comes from now on.")
@click.option("--until-end", is_flag=True, help="End when all there is has been shown. Default: wait for more.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="End after N records.")
@folder
@click.option("--json", "json_", is_flag=True, help="One JSON object a line, as in a pipe.")
def tail(
    names: tuple[str, ...], *, from_beginning: bool, until_end: bool, limit: int | None, given: Path | None, json_: bool
) -> None:
    """Show the committed records of topics as they come, decoded.

    Each value is decoded by the schema id that it carries. A record that cannot be is shown with the reason and its bytes.
    Nothing is committed and no group joined: nobody notices.

    JSON lines hold topic, partition, offset, timestamp (ms), key, headers ([name, value] pairs), event and value; bytes
    that are no text are shown as {"base64": …}. A value that cannot be decoded is such bytes, and `undecodable` says why.

    \b
    Examples:
      towpath tail orders.submitted notifications.sent
      towpath tail payments.failed --from-beginning --until-end | jq .value.reason
    """
    from streams.ops.reader import Reader
    from streams.ops.show import as_json, as_text
    from streams.registry import FolderRegistry

    registry = FolderRegistry(schemas_folder(given))
    show = as_text if interactive() and not json_ else as_json
    with Reader(invocation().cluster(), names, from_beginning=from_beginning) as reader:
        shown, waiting = 0, False
        while not (until_end and reader.at_end):
            for record in reader.read(min(500, limit - shown) if limit else 500):
                click.echo(show(record, registry))
                shown += 1
            if limit and shown >= limit:
                return
            if reader.at_end and not waiting and not until_end:
                waiting = True
                say("waiting for records; Ctrl-C ends")
