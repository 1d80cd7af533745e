"""`towpath order`: what became of one key, from its first event to its last.

The one rule: it only looks, and what a record says cannot move the terminal's cursor.
"""
# ruff: noqa: D301, PLC0415  # `\b` is click's mark for text to be left as it is; slow imports wait until they are needed

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from streams.cli.invocation import complain, interactive, invocation, json_line
from streams.cli.options import as_json

if TYPE_CHECKING:  # they load a client
    from rich.text import Text

    from streams.ops.story import Handled, Step


@click.command()
@click.argument("module")
@click.argument("key", metavar="ID")
@click.option(
    "--since", metavar="TIME", help="Read from then on: 2024-05-31T08:00 (UTC), or an age: 30m, 2h, 7d. Default: all."
)
@as_json
def order(module: str, key: str, *, since: str | None, json_: bool) -> None:
    """Tell the story of one order: all its events over all topics, each below what caused it.

    ID is the key of the events, such as an order's id. Each event is shown with the stage that made it, its place, how long
    after its cause it came, and what it moved outside Kafka; below it what is not as simple as one attempt that succeeded:
    attempts, when a parked one is due and why it waits, dead letters, the case and what was decided.

    Only the key's partition of each topic is read. Events with other keys are found by their cause.

    JSON is one object: `key`, and `events` with all of that; `parent` is the index of the event that caused one.

    \b
    Exit codes:
      0 told   1 no topic knows the ID   2 could not be read; stderr says why

    \b
    Examples:
      towpath order topologies.orders 4711
      towpath order topologies.orders 4711 --since 2h --json
    """
    from streams.ops.cases import moment
    from streams.ops.story import tell
    from streams.ops.trail import Cluster
    from streams.topology import load

    topology = load(module)
    start = int(moment(since, datetime.now(UTC)).timestamp() * 1000) if since else 0
    steps = tell(topology, key, Cluster(invocation().cluster()), max(start, 0))
    if not steps:
        complain(f"no event of {key!r} in topology {topology.name!r}" + (f" since {since}" if since else ""))
        click.get_current_context().exit(1)
    if json_ or not interactive():
        click.echo(json_line({"key": key, "events": steps}))
    else:
        _show(key, steps)


def _show(key: str, steps: "list[Step]") -> None:
    """A tree, with the time of each beginning and, below it, how long after its cause each event came."""
    from rich.console import Console
    from rich.text import Text
    from rich.tree import Tree

    top = Tree(Text(_shown(key), "bold"))
    nodes: list[Tree] = []
    for step in steps:
        node = (top if step.parent is None else nodes[step.parent]).add(_event(step))
        nodes.append(node)
        if step.moved:
            node.add(Text(_shown(step.moved), "green"))
        for handled in step.handled:
            for line in _handled(handled):
                node.add(line)
    Console().print(top)


def _event(step: "Step") -> "Text":
    from rich.text import Text

    when = f"{step.at:%Y-%m-%d %H:%M:%S}.{step.at.microsecond // 1000:03}" if step.after is None else f"{step.after:+,} ms"
    name = (_shown(step.event or "no event"), "cyan" if step.event and not step.undecodable else "red")
    where = f" {step.topic}[{step.partition}]@{step.offset}" if step.offset >= 0 else f" {step.topic}, a timer"
    wrong = f" {_shown(step.undecodable)}" if step.undecodable else ""
    return Text.assemble((f"{when} ", "dim"), name, f" by {step.stage or 'the outside'}", (where, "dim"), (wrong, "red"))


def _handled(handled: "Handled") -> "list[Text]":
    """What is to be said of a stage's handling; nothing if it was one attempt that succeeded."""
    from rich.text import Text

    if handled.state == "done" and handled.attempts == 1:
        return []
    turn = ", its turn has not come" if handled.state == "parked" and not handled.due else ""
    tries = f", {handled.attempts} attempt{'' if handled.attempts == 1 else 's'}" if handled.attempts else turn
    due = f", due {handled.due:%Y-%m-%d %H:%M:%S}" if handled.due else ""
    style = {"done": "", "waiting": "", "parked": "yellow"}.get(handled.state, "red")
    why = f": {_shown(handled.error)}" if handled.error else ""
    lines = [Text(f"{handled.stage}: {handled.state}{tries}{due}{why}", style)]
    case: dict[str, Any] = handled.case or {}
    if handled.letters:
        lines.append(Text(f"case {str(case.get('case_id', 'unknown'))[:8]}, dead letter {', '.join(handled.letters)}", "dim"))
    for decision in case.get("decisions", ()):
        because = f": {_shown(decision['why'])}" if decision["why"] else ""
        lines.append(Text(f"{decision['at']} {decision['what']} by {_shown(decision['who'])}{because}", "dim"))
    return lines


def _shown(words: str) -> str:
    """Text as a terminal may get it."""
    from streams.ops.show import safe

    return safe(words.encode("utf-8", "replace"))
