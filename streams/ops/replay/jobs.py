"""A replay in several processes: each takes its share of the partitions, with a reader and files of its own.

The one rule: what comes out is what one process would say, and no process outlives the one that started it.
"""

from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

from streams.config import Settings
from streams.jobs import Pool
from streams.ops.replay.judge import Finding
from streams.ops.replay.repair import Plan
from streams.ops.replay.verb import Options, Replay
from streams.ops.replay.window import Inputs, Window
from streams.session import Place
from streams.topology import load

_BATCH: Final = 500  # findings of one message


class Task(msgspec.Struct, frozen=True):
    """What a job has to know. A topology does not travel to another process: it is loaded there once more."""

    settings: Settings
    module: str
    stage: str
    options: Options


class Jobs:
    """One stage over the shares of one range. `folder` is for temporary files, `plan` takes what is to be published."""

    def __init__(self, task: Task, shares: list[Window], folder: Path, plan: Plan) -> None:
        self._task = task
        self._shares = shares
        self._folder = folder
        self._plan = plan

    def findings(self) -> Generator[Finding, None, None]:
        """What is to be said of each event; of the jobs' findings, whichever is there first.

        Raises the error of the first job that fails. At its end, whatever the reason, no job runs any more: whoever goes
        away early closes it.
        """
        folders = []
        with Pool[list[Finding]]("a job of the replay") as pool:
            for number, share in enumerate(self._shares):
                folders.append(self._folder / f"job-{number}")
                folders[-1].mkdir()
                pool.start(_batches, self._task, share, folders[-1])
            for batch in pool.messages():
                yield from batch or ()
            for folder in folders:  # in this order, and not in that in which they ended
                self._plan.join(folder)


def shares(window: Window, jobs: int) -> list[Window]:
    """The window in at most so many parts, of whole partitions and of about the same size; none is empty.

    All look at what was emitted from the same time on.
    """
    sizes = {place: window.end[place] - first for place, first in window.first.items() if first < window.end[place]}
    parts: list[list[Place]] = [[] for _ in range(min(jobs, len(sizes)))]
    for place in sorted(sizes, key=lambda place: (-sizes[place], place)):
        min(parts, key=lambda part: sum(sizes[one] for one in part)).append(place)
    return [
        Window({place: window.first[place] for place in part}, {place: window.end[place] for place in part}, window.since)
        for part in parts
    ]


def _batches(task: Task, share: Window, folder: Path) -> Iterator[list[Finding]]:
    """One share's findings, in the process of its job."""
    topology = load(task.module)
    inputs = Inputs(task.settings, topology, topology.stage(task.stage))
    with closing(Plan(folder)) as plan:
        findings = Replay(inputs, share, task.options, folder, plan).findings()
        while batch := list(islice(findings, _BATCH)):
            yield batch
