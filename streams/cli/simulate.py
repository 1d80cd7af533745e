"""`towpath simulate`: a topology on virtual time, with everything going wrong that can.

The one rule: what it reports can be played again, by its seed, to the last offset.
"""
# ruff: noqa: D301, PLC0415  # `\b` is click's mark for text to be left as it is; slow imports wait until they are needed

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from streams.cli.invocation import json_line, say
from streams.cli.options import as_json

if TYPE_CHECKING:  # they load the engine and SQLAlchemy
    from streams.simulator.kit import Kit
    from streams.simulator.run import Report
    from streams.simulator.schedule import Schedule


@click.command()
@click.argument("module")
@click.option("--seeds", type=click.IntRange(1), metavar="N", help="So many runs. Default: 200, or no end with --minutes.")
@click.option("--from", "first", type=click.IntRange(0), default=0, show_default=True, help="The first seed.")
@click.option("--seed", type=click.IntRange(0), metavar="S", help="Play this one, and nothing else.")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), metavar="M", help="No longer than this.")
@click.option("--jobs", type=click.IntRange(1), metavar="K", help="Processes. Default: one per core.")
@click.option(
    "--shrink", type=click.FloatRange(0), default=60.0, show_default=True, metavar="SECONDS", help="Time to shorten a failure."
)
@click.option("--trace", is_flag=True, help="With --seed: what everybody did, step by step.")
@as_json
def simulate(module: str, *, seed: int | None, json_: bool, **options: Any) -> None:
    """Run a topology in memory, seed after seed, with everything going wrong that can.

    A scheduler lets processes crash, freeze and come back as zombies, transactions abort or end unknown, databases and clocks
    fail. Then all of it heals, and it is checked that nothing is lost, doubled or out of order, and that the topology's own
    books balance.

    MODULE, or its module `workload`, holds a `Workload` that says who sends what and what must come of it:
    docs/simulation.md. No Kafka and no database are needed.

    It stops at the first seed that fails, cuts its schedule to the shortest that still does, and shows that. The same seed
    always gives the same run, as long as the code is the same.

    \b
    Exit codes:
      0 all is as it should be   1 a seed fails   2 could not be done; stderr says why   130 Ctrl-C

    \b
    Examples:
      towpath simulate topologies.orders --seeds 2000
      towpath simulate topologies.orders --minutes 480 --from 100000
      towpath simulate topologies.orders --seed 29 --trace
    """
    from streams.simulator.campaign import prepared

    failed: Report | None
    if seed is None:
        failed, done = _campaign(module, options)
        if failed is None:
            _summary(done, json_=json_)
            return
    with prepared(module) as kit:
        if seed is not None:
            failed, done = _one(kit, seed, show=options["trace"] and not json_)
        _summary(done, json_=json_ and failed is None)
        if failed is None:
            return
        _show(module, (kit, failed, _shrunk(kit, failed, options["shrink"])), done, json_=json_)
    click.get_current_context().exit(1)


def _one(kit: "Kit", seed: int, *, show: bool) -> "tuple[Report | None, dict[str, Any]]":
    """The report of one seed, if it has a finding; and what was done."""
    from streams.simulator.campaign import scheduled
    from streams.simulator.run import play

    report = play(kit, scheduled(kit, seed), trace=show)
    for line in report.trace:
        click.echo(line)
    done = {"seeds": 1, "events": report.events, "steps": report.steps}
    return report if report.findings else None, done


def _campaign(module: str, options: dict[str, Any]) -> "tuple[Report | None, dict[str, Any]]":
    """The first report with a finding, if any; and what was done."""
    from streams.jobs import cores
    from streams.simulator.campaign import Campaign, find

    find(module)  # before several processes say that there is none
    minutes = options["minutes"]
    count = options["seeds"] or (0 if minutes else 200)
    jobs = options["jobs"] or cores()
    done: dict[str, Any] = {"seeds": 0, "events": 0, "steps": 0, "seconds": 0.0, "jobs": jobs}
    start = time.monotonic()
    with (
        _progress(count) as shown,
        contextlib.closing(Campaign(module, options["first"], count, jobs).reports((minutes or 0) * 60)) as all_,
    ):
        for report in all_:
            done["seconds"] = round(time.monotonic() - start, 1)
            if report is not None:
                done |= {
                    "seeds": done["seeds"] + 1,
                    "events": done["events"] + report.events,
                    "steps": done["steps"] + report.steps,
                }
                if report.findings:
                    return report, done
            shown(done)
    return None, done


@contextlib.contextmanager
def _progress(count: int) -> Iterator[Any]:
    """A line on the terminal that says how far it is; in a pipe nothing."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("seeds {task.completed:,}"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=count or None)

        def show(done: dict[str, Any]) -> None:
            rate = done["events"] / max(done["seconds"], 0.001)
            progress.update(task, completed=done["seeds"], description=f"{done['events']:,} events, {rate:,.0f}/s")

        yield show


def _summary(done: dict[str, Any], *, json_: bool) -> None:
    if json_:
        click.echo(json_line(done | {"failed": None}))
    per = f" in {done['seconds']:,.0f} s" if done.get("seconds") else ""
    say(f"{done['seeds']:,} seeds, {done['events']:,} events, {done['steps']:,} steps{per}")


def _shrunk(kit: "Kit", report: "Report", seconds: float) -> "Schedule":
    from streams.simulator.campaign import scheduled
    from streams.simulator.shrink import shrink

    schedule = scheduled(kit, report.seed)
    if not seconds:
        return schedule
    say(f"seed {report.seed} fails; looking for its shortest schedule, at most {seconds:g} s")
    return shrink(kit, schedule, report, seconds=seconds)


def _show(module: str, failure: "tuple[Kit, Report, Schedule]", done: dict[str, Any], *, json_: bool) -> None:
    """A failure: what is wrong, the shortest way there, and how to play it again."""
    from streams.simulator.run import play

    kit, report, schedule = failure
    short = play(kit, schedule)
    if json_:
        failed = {"seed": report.seed, "findings": report.findings, "schedule": schedule.actions, "short": short.findings}
        click.echo(json_line(done | {"failed": failed}))
        return
    click.echo(f"seed {report.seed}: {len(report.findings)} findings")
    for finding in report.findings[:10]:
        click.echo(f"  {finding}")
    click.echo(f"\nthe shortest schedule that fails, of {len(schedule.actions)} actions:")
    for number, action in enumerate(schedule.actions, 1):
        click.echo(f"  {number:3}. {action}")
    click.echo("  then everything heals, and:")
    for finding in short.findings[:10]:
        click.echo(f"     {finding}")
    click.echo(f"\nplay it again: towpath simulate {module} --seed {report.seed} --trace")
