"""`towpath lag`: how far behind each stage is.

The one rule: it asks the cluster and joins no group, so that a stage without a living worker is seen too.
"""
# ruff: noqa: D301, PLC0415  # `\b` is click's mark for text to be left as it is; slow imports wait until they are needed

import click

from streams.cli.invocation import interactive, invocation, json_line, table
from streams.cli.options import as_json


@click.command()
@click.argument("module")
@as_json
def lag(module: str, *, json_: bool) -> None:
    """Show how far each stage is behind, in records and in seconds, and who is there to read them.

    The end is the last stable offset. `undecided` counts what lies behind an open transaction: if it grows from look to look,
    the transaction hangs. A lag with 0 members means that no worker of the stage lives.

    On a terminal, partitions without lag are summed up; JSON has a line for each stage and partition.

    \b
    Examples:
      towpath lag topologies.orders
      towpath lag topologies.orders --json | jq 'select(.seconds > 60)'
    """
    from streams.ops.lag import measure
    from streams.topology import load

    found = measure(invocation().cluster(), load(module))
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
