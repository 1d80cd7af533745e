"""`towpath lag`: how far behind each stage is, once or for Prometheus.

The one rule: it asks the cluster and joins no group, so that a stage without a living worker is seen too.
"""
# ruff: noqa: D301, PLC0415  # `\b` is click's mark for text to be left as it is; slow imports wait until they are needed

import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streams.cli.invocation import interactive, invocation, json_line, say, table
from streams.cli.options import as_json

if TYPE_CHECKING:
    from streams.topology import Topology


def address(text: str) -> tuple[str, int]:
    """HOST:PORT; an IPv6 address is in brackets. Raises `UsageError`."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise click.UsageError(f"{text!r} is no HOST:PORT, such as 127.0.0.1:9187")
    return host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port)


@click.command()
@click.argument("module")
@click.option("--serve", metavar="HOST:PORT", help="Stay, and serve GET /metrics there for Prometheus. Port 0: a free one.")
@click.option(
    "--every", type=click.FloatRange(1), default=10, show_default=True, help="With --serve: seconds between two looks."
)
@click.option(
    "--include",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="With --serve: serve as well what `towpath reconcile --metrics FILE` has written.",
)
@as_json
def lag(module: str, *, serve: str | None, every: float, include: Path | None, json_: bool) -> None:
    """Show how far each stage is behind, in records and in seconds, and who is there to read them.

    The end is the last stable offset. `undecided` counts what lies behind an open transaction: if it grows from look to look,
    the transaction hangs. A lag with 0 members means that no worker of the stage lives.

    On a terminal, partitions without lag are summed up; JSON has a line for each stage and partition.

    With --serve it looks again and again, until SIGTERM or Ctrl-C: also at open cases, at brokers and replicas, and for how
    long a transaction has been open. docs/metrics.md says what each metric means. While the cluster does not answer,
    towpath_lag_up is 0 and there are no other figures.

    \b
    Examples:
      towpath lag topologies.orders
      towpath lag topologies.orders --json | jq 'select(.seconds > 60)'
      towpath lag topologies.orders --serve 127.0.0.1:9187
    """
    from streams.ops.lag import measure
    from streams.topology import load

    topology = load(module)
    if serve is not None:
        _serve(topology, address(serve), every, include)
        return
    found = measure(invocation().cluster(), topology)
    if json_ or not interactive():
        for one in found:
            click.echo(json_line(one))
        return
    rows = [
        (
            one.stage,
            f"{one.topic}[{one.partition}]",
            f"{one.records:,}",
            f"{one.seconds:,.1f} s",
            f"{one.undecided:,}",
            str(one.members),
        )
        for one in found
        if one.records or one.undecided
    ]
    if rows:
        table(("stage", "partition", "behind", "oldest", "undecided", "members"), rows)
    even = len(found) - len(rows)
    click.echo(f"{even} of {len(found)} partitions have been read to their end")


def _serve(topology: "Topology", at: tuple[str, int], every: float, include: Path | None) -> None:
    """Serve until it is told to end."""
    from streams.logs import set_up
    from streams.ops.exporter import Exporter, serve

    settings = invocation().cluster()
    set_up(sys.stderr, settings)
    exporter = Exporter(settings, topology, every=every, include=include)
    server = serve(exporter, *at)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    thread = threading.Thread(target=server.serve_forever, name="towpath-pages", daemon=True)
    with exporter, server:
        thread.start()
        host, port = server.server_address[:2]
        say(f"the lag of {topology.name} is served at http://{host!s}:{port}/metrics")
        ended.wait()
        server.shutdown()
