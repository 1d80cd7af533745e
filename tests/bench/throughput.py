"""How fast a process works through a full topic, told from outside: by what its group has committed.

The one rule: start-up and the first commit do not count, for nobody.
"""

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any, Final

from streams import names
from streams.topology import Topology
from tests.bench.flow import bench
from tests.bench.ground import PARTITIONS, SUBMITTED, Ground
from tests.bench.processes import Processes

BATCH: Final = 2000
"""As many as a stage takes by default."""
_PATIENCE: Final = 300.0  # seconds
_LATE: Final = 0.75  # of the records may be behind it when the watch begins


def by_turns(ways: Mapping[str, Callable[[], float]], rounds: int, *, warm: bool = True) -> dict[str, list[float]]:
    """Each way once unmeasured, to `warm` the broker up, then A B A B …"""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(0 if warm else 1, rounds + 1):
        for name, run in ways.items():
            speed = run()
            if number:
                found[name].append(speed)
    return found


def ratio(ours: list[float], theirs: list[float]) -> float:
    """The median of the ratios of each pair."""
    return median(our / their for our, their in zip(ours, theirs, strict=True))


def stage_speed(
    ground: Ground,
    flow: Topology = bench,
    *,
    program: str = "streams",
    workers: int = 1,
    partitions: int = PARTITIONS,
    store: str = "",
    more: Mapping[str, str] | None = None,
) -> float:
    """Messages per second of the one stage of a flow over the whole of orders.submitted, or so many partitions of it."""
    (stage,) = flow.stages
    group = names.group(flow.name, stage.name)
    ahead = ground.rewind(group, SUBMITTED, partitions)
    behind = ground.committed(group, SUBMITTED)
    settings = ground.settings("throughput", store)
    module = f"tests.bench.{'flow' if flow is bench else 'kept'}"
    with Processes(settings.directory) as processes:
        for _ in range(workers):
            processes.worker(settings, module, stage.name, program=program, more=more)
        if workers > 1:  # while they join, partitions are on their way from one to the other
            processes.wait_until_ready()
        return watch(ground, processes, (group, SUBMITTED), behind, ahead)


def group_speed(ground: Ground, group: str, ahead: int, start: Callable[[Processes], Any]) -> float:
    """Messages per second of another program on the first `ahead` records of orders.submitted, as a new group."""
    with Processes(ground.settings("throughput").directory) as processes:
        start(processes)
        return watch(ground, processes, (group, SUBMITTED), 0, ahead)


def watch(ground: Ground, processes: Processes, of: tuple[str, str], before: int, ahead: int) -> float:
    """From the first commit that is seen until `ahead` records are behind the group `of` a topic, beside those `before`."""
    began, behind = 0.0, 0
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        done, now = ground.committed(*of) - before, time.monotonic()
        if done > 0 and not behind:
            began, behind = now, done
        if done >= ahead:
            if behind > ahead * _LATE:
                raise SystemExit(f"{of[0]} was through with {of[1]} before it could be watched")
            return (done - behind) / (now - began)
        processes.check()
        time.sleep(0.02)
    raise SystemExit(f"{of[0]} has not come to the end of {of[1]}")
