"""Throughput: one stage process on a full topic, beside a bare transactional copy of the same topic.

The one rule: both are watched from outside, by what their groups have committed; start-up and the first commit do not count.
The stage does what intake of the order flow does, without its database: it reads, checks and adds up orders of five lines, and
writes other events with headers.
"""

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any, Final

from streams import names
from tests.bench.flow import bench, checking
from tests.bench.ground import SUBMITTED, Ground, encoded, preload, some_orders
from tests.bench.processes import Processes

_COPY: Final = "bare.copy"
_BATCH: Final = 2000  # as many as a stage takes by default
_PATIENCE: Final = 300.0  # seconds


def measure(ground: Ground, *, quick: bool) -> dict[str, Any]:
    """By turns."""
    records, rounds = (60_000, 1) if quick else (400_000, 3)  # a bare copy is through with 200,000 in two seconds
    ground.make_topics([_COPY])
    preload(ground.bootstrap, SUBMITTED, encoded(some_orders(records, "stage-")))
    ways = {"towpath": lambda: stage_speed(ground, records), "bare": lambda: _bare_speed(ground, records)}
    found = by_turns(ways, rounds)
    return {
        "what": __doc__,
        "records": records,
        "msgs/s": found,
        "median": {name: median(speeds) for name, speeds in found.items()},
        "ratio": ratio(found["towpath"], found["bare"]),
        "target": 0.25,
    }


def by_turns(ways: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Each way once unmeasured, to warm the broker up, then A B A B …"""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, run in ways.items():
            speed = run()
            if number:
                found[name].append(speed)
    return found


def ratio(ours: list[float], theirs: list[float]) -> float:
    """The median of the ratios of each pair."""
    return median(our / their for our, their in zip(ours, theirs, strict=True))


def stage_speed(
    ground: Ground, records: int, *, program: str = "streams", rewind: bool = True, more: Mapping[str, str] | None = None
) -> float:
    """Messages per second of intake, over the whole topic; then its group is at the beginning again, unless told not to be."""
    group = names.group(bench.name, checking.name)
    settings = ground.settings("throughput")
    with Processes(settings.directory) as processes:
        processes.worker(settings, "tests.bench.flow", checking.name, program=program, more=more)
        speed = _watch(ground, processes, group, records)
    if rewind:
        ground.rewind(group, SUBMITTED)
    return speed


def _bare_speed(ground: Ground, records: int) -> float:
    settings = ground.settings("throughput")
    with Processes(settings.directory) as processes:
        processes.bare(ground.bootstrap, "bench.copy", SUBMITTED, _COPY, _BATCH)
        speed = _watch(ground, processes, "bench.copy", records)
    ground.rewind("bench.copy", SUBMITTED)
    return speed


def _watch(ground: Ground, processes: Processes, group: str, records: int) -> float:
    began, behind = 0.0, 0
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        done, now = ground.committed(group, SUBMITTED), time.monotonic()
        if done and not behind:
            began, behind = now, done
        if done == records:
            if behind > records / 2:
                raise SystemExit(f"{group} was through with {SUBMITTED} before it could be watched")
            return (records - behind) / (now - began)
        processes.check()
        time.sleep(0.02)
    raise SystemExit(f"{group} has not come to the end of {SUBMITTED}")
