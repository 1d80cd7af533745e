"""`towpath replay` and `towpath rebuild`: the past, run once more and compared.

The one rule: nothing is published and no live database is touched, unless --emit or --into says so and it was agreed to.
"""
# ruff: noqa: D301, PLC0415  # `\b` is click's mark for text to be left as it is; slow imports wait until they are needed

import sys
import tempfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streams.cli.invocation import interactive, invocation, json_line, say, table
from streams.cli.options import as_json, yes
from streams.errors import SetupError

if TYPE_CHECKING:  # they load a client
    from streams.ops.replay.jobs import Jobs
    from streams.ops.replay.judge import Tally
    from streams.ops.replay.repair import Plan
    from streams.ops.replay.verb import Replay
    from streams.ops.replay.window import Inputs, Window


@click.command()
@click.argument("module")
@click.argument("stage")
@click.option("--from", "first", multiple=True, metavar="FROM", help="A time, or topic:partition:offset (one or more).")
@click.option("--to", "end", multiple=True, metavar="TO", help="As --from, not included. Default: all that is committed.")
@click.option("--key", metavar="KEY", help="Only records of this key.")
@click.option(
    "--effects",
    type=click.Choice(["recorded", "fresh"]),
    default="recorded",
    show_default=True,
    help="Answers of database and ports as they were, or a throw-away database; see below.",
)
@click.option("--base", metavar="URL", default="", help="With fresh: a database as it was before the first event.")
@click.option("--ignore", multiple=True, metavar="FIELD", help="A field that may differ; may be given again.")
@click.option("--report", metavar="FILE", type=click.Path(dir_okay=False), help="Write a page of HTML.")
@click.option("--emit", type=click.Choice(["missing"]), help="Publish outputs that should be on their topics and are not.")
@click.option("--into", metavar="PREFIX", default="", help="Publish all outputs to the topics PREFIX.<topic>, made if needed.")
@click.option(
    "--jobs", type=click.IntRange(1), metavar="N", help="Processes. Default: one per core, at most one per partition."
)
@click.option("--rate", type=click.FloatRange(0, min_open=True), metavar="R", help="Outputs per second. Default: at once.")
@yes
@as_json
def replay(module: str, stage: str, **options: Any) -> None:
    """Run the code of today on what STAGE has read, and compare what it gives with what was really emitted.

    Each event is the same, changed, new (there is more now, or something is missing on its topic), gone (there is less
    now), open (parked or dead: it is no difference yet) or undecidable. Those that differ are grouped by how they do.

    A replay calls nobody: ports and database give the answers that are recorded in what was emitted and in the inbox. Where
    that does not say what was answered, the event is undecidable. With `--effects fresh` the stage runs from its first event
    on a throw-away database instead, and events of the range are compared; ports answer from the record as well.

    Partitions are shared out among the jobs; lines of JSON come in any order, the result is the same. `--effects fresh` is one
    job, whatever N is, since a database sees the partitions' events in one order.

    FROM and TO are times (2024-05-31T08:00 is UTC; 30m, 2h, 7d ago) or places. It joins no group and disturbs no worker.

    --emit missing shows its plan first. What is published has the ids that it should have had, so that it is there once,
    however often this is run or killed; a receipt goes with it. Outputs of parked and dead events are never published, nor
    any that retention may have removed.

    \b
    Exit codes:
      0 nothing differs   1 something does   2 could not be done; stderr says why   3 another repair has taken over

    \b
    Examples:
      towpath replay topologies.orders intake --from 2h --report replay.html
      towpath replay topologies.orders inventory --from orders.accepted:0:1000 --to orders.accepted:0:2000 --json
      towpath replay topologies.orders inventory --from 1d --emit missing
    """
    from streams.jobs import cores
    from streams.ops.replay.jobs import Jobs, Task, shares
    from streams.ops.replay.repair import Plan
    from streams.ops.replay.verb import Options, Replay, page
    from streams.ops.replay.window import Inputs
    from streams.topology import load

    if options["emit"] and options["into"]:
        raise click.UsageError("--emit publishes to the real topics and --into aside: use one of them")
    topology = load(module)
    inputs = Inputs(invocation().cluster(), topology, topology.stage(stage))
    window = inputs.window(options["first"], options["end"])
    keep = "all" if options["into"] else options["emit"] or ""
    key = options["key"].encode() if options["key"] is not None else None
    how = Options(key, options["effects"] == "fresh", options["base"], frozenset(options["ignore"]), keep)
    with tempfile.TemporaryDirectory(prefix="towpath-") as folder:
        plan = Plan(Path(folder))
        try:
            jobs = 1 if how.fresh else options["jobs"] or cores()
            if len(parts := shares(window, jobs)) > 1:
                work: Replay | Jobs = Jobs(Task(inputs.settings, module, stage, how), parts, Path(folder), plan)
            else:
                work = Replay(inputs, window, how, Path(folder), plan)
            tally = _run(work, window, json_=options["json_"] or not interactive())
            if options["report"]:
                _write(options["report"], page(inputs, window, tally, datetime.now(UTC)))
            if keep:
                _publish(inputs, window, plan, options)
        finally:
            plan.close()
    click.get_current_context().exit(0 if tally.clean else 1)


def _run(work: "Replay | Jobs", window: "Window", *, json_: bool) -> "Tally":
    """All findings: in a pipe a line for each that is not the same and a last one with the counts; on a terminal the groups."""
    from streams.ops.replay.judge import Kind, Tally, as_dict

    tally = Tally()
    hidden = not sys.stderr.isatty()
    with (
        closing(work.findings()) as findings,
        click.progressbar(length=window.size, file=sys.stderr, hidden=hidden, label="replaying") as bar,
    ):
        for finding in findings:
            tally.take(finding)
            bar.update(1)
            if json_ and finding.kind is not Kind.SAME:
                click.echo(json_line(as_dict(finding)))
    counts = {kind.value: tally.counts[kind] for kind in Kind}
    if json_:
        groups = [{"kind": group.kind, "shape": group.shape, "events": group.events} for group in tally.groups]
        click.echo(json_line({"events": sum(counts.values()), **counts, "groups": groups}))
        return tally
    if tally.groups:
        rows = [
            (group.kind.value, _shown(group.shape), f"{group.events:,}", group.examples[0].event_id) for group in tally.groups
        ]
        table(("kind", "how", "events", "for example"), rows)
    say(f"{sum(counts.values()):,} events: " + ", ".join(f"{count:,} {kind}" for kind, count in counts.items() if count))
    return tally


def _publish(inputs: "Inputs", window: "Window", plan: "Plan", options: dict[str, Any]) -> None:
    """Show what would be published, ask, and do it."""
    from streams.codec import Codec
    from streams.ops.replay.repair import Receipts, Repair
    from streams.receipts import Receipt
    from streams.registry import FolderRegistry
    from streams.version import code_version

    prefix = f"{options['into']}." if options["into"] else ""
    for topic, count in plan.counts().items():
        say(f"to be published: {count:,} to {prefix}{topic}")
    count = sum(plan.counts().values())
    if not count:
        say("there is nothing to publish")
        return
    if not _agreed(count, options):
        return
    topology, stage = inputs.topology, inputs.stage
    receipt = None
    if not prefix:
        encode = Codec([Receipt], FolderRegistry(topology.schemas)).encoder(Receipt)
        receipt = Receipts(topology, stage.name, encode, code_version(inputs.settings, stage.where))
    with Repair(inputs.settings, topology, stage.name, options["into"]) as repair:
        repair.look(plan, window.since)
        left = sum(plan.counts().values())
        done = 0
        with click.progressbar(length=left, file=sys.stderr, hidden=not sys.stderr.isatty(), label="publishing") as bar:
            for so_far in repair.publish(plan, rate=options["rate"], receipt=receipt):
                bar.update(so_far - done)
                done = so_far
    say(f"{done:,} published, {count - left:,} were there already")


def _agreed(count: int, options: dict[str, Any]) -> bool:
    if options["yes"]:
        return True
    if not (interactive() and sys.stdin.isatty()):
        say("nothing was published: say --yes to publish")
        return False
    if click.confirm(f"publish {count:,} outputs?"):
        return True
    say("nothing was published")
    return False


@click.command()
@click.argument("module")
@click.argument("stage")
@click.option("--store", "url", required=True, metavar="URL", help="An empty database, e.g. sqlite:///rebuilt.db.")
@click.option("--live", metavar="URL", help="The database to compare with. Default: TOWPATH_STORE.")
@click.option("--lost", is_flag=True, help="There is no live database: go by the records' times, and compare nothing.")
@click.option("--base", metavar="URL", default="", help="A database as it was before the first event, e.g. seeded.")
@as_json
def rebuild(module: str, stage: str, *, json_: bool, **options: Any) -> None:
    """Make the database of STAGE once more from its topics, and compare it with the live one, row by row.

    All that the stage has handled is run once more, in the order and at the times that the live inbox has; ports answer from
    the record, and nothing is published. The new database has an inbox too and can take the live one's place. What does not
    come from events, such as stock that was seeded, comes from --base: a copy of the database as it was before.

    Columns that a store names as volatile may differ. Workers may go on meanwhile: the live database is looked at as it is at
    one moment.

    \b
    Exit codes:
      0 all rows are the same   1 some differ, or an event came to another end   2 could not be done; stderr says why

    \b
    Examples:
      towpath rebuild topologies.orders inventory --store sqlite:///rebuilt.db --base sqlite:///seeded.db
      towpath rebuild topologies.orders intake --store sqlite:///rebuilt.db --json
    """
    from streams.ops.rebuild import Rebuild
    from streams.ops.replay.window import Inputs
    from streams.topology import load

    topology = load(module)
    inputs = Inputs(invocation().cluster(), topology, topology.stage(stage))
    compared = "" if options["lost"] else options["live"] or inputs.settings.store
    with tempfile.TemporaryDirectory(prefix="towpath-") as folder:
        work = Rebuild(inputs, options["url"], Path(folder), live=compared, base=options["base"])
        if work.copied:
            say(f"{work.copied:,} rows of the base copied")
        different = 0
        for difference in work.run():
            different += 1
            if json_ or not interactive():
                click.echo(json_line(difference))
            else:
                columns = ", ".join(f"{name}: {was} → {now}" for name, (was, now) in difference.columns.items())
                click.echo(_shown(f"{difference.kind} {difference.table} {'/'.join(map(str, difference.key))} {columns}"))
    done = work.done
    for failure in done.failures:
        say(f"came to another end: {_shown(failure)}")
    if json_:
        click.echo(json_line({"events": done.events, "failed": done.failed, "rows": different, "compared": bool(compared)}))
    say(f"{done.events:,} events handled once more, {done.failed:,} of them otherwise than then; {different:,} rows differ")
    click.get_current_context().exit(1 if different or done.failed else 0)


def _write(path: str, html: str) -> None:
    try:
        Path(path).write_text(html, encoding="utf-8")
    except OSError as error:
        raise SetupError(f"cannot be written: {error.strerror}", where=path, fix="name a file that can be") from None
    say(f"report: {path}")


def _shown(words: str) -> str:
    """Text as a terminal may get it."""
    from streams.ops.show import safe

    return safe(words.encode("utf-8", "replace"))
