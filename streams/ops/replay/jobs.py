"""A replay in several processes: each takes its share of the partitions, with a reader and files of its own.

The one rule: what comes out is what one process would say, and no process outlives the one that started it.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Final

import msgspec

from streams.config import Settings
from streams.errors import SetupError, TowpathError
from streams.ops.replay.judge import Finding
from streams.ops.replay.repair import Plan
from streams.ops.replay.verb import Options, Replay
from streams.ops.replay.window import Inputs, Window
from streams.session import Place
from streams.topology import load

_BATCH: Final = 500  # findings of one message
_context = multiprocessing.get_context("spawn")


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
        running: dict[Connection, SpawnProcess] = {}
        try:
            folders = []
            for number, share in enumerate(self._shares):
                folders.append(self._folder / f"job-{number}")
                folders[-1].mkdir()
                ours, job = _start(self._task, share, folders[-1])
                running[ours] = job
            open_ = set(running)
            while open_:
                for ready in wait(list(open_)):
                    assert isinstance(ready, Connection)  # noqa: S101  # for mypy: nothing else was asked for
                    message = _received(ready, running[ready])
                    if message is None:
                        open_.remove(ready)
                    else:
                        yield from message
            for folder in folders:  # in this order, and not in that in which they ended
                self._plan.join(folder)
        finally:
            for job in running.values():
                job.kill()
            for ours, job in running.items():
                job.join()
                ours.close()


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


def _start(task: Task, share: Window, folder: Path) -> tuple[Connection, SpawnProcess]:
    ours, theirs = _context.Pipe(duplex=False)
    job = _context.Process(target=_job, args=(theirs, task, share, folder), daemon=True)
    with deaf():
        job.start()
    theirs.close()
    return ours, job


@contextmanager
def deaf() -> Iterator[None]:
    """What is started here does not hear Ctrl-C, which a terminal sends to all: the process that started it does."""
    resource_tracker.ensure_running()  # it would be started with the first job, and unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _received(ours: Connection, job: SpawnProcess) -> list[Finding] | None:
    """A batch of a job, None at its end. Raises its error."""
    try:
        message: list[Finding] | TowpathError | None = ours.recv()
    except (EOFError, OSError):
        job.join()
        raise SetupError(
            f"a job of the replay died (exit code {job.exitcode})", fix="it may be memory: try fewer --jobs"
        ) from None
    if isinstance(message, TowpathError):
        raise message
    return message


def _job(theirs: Connection, task: Task, share: Window, folder: Path) -> None:
    """The process of one share: batches of findings, then None; or an error."""
    threading.Thread(target=die_with_parent, daemon=True).start()
    try:
        topology = load(task.module)
        inputs = Inputs(task.settings, topology, topology.stage(task.stage))
        with closing(Plan(folder)) as plan:
            findings = Replay(inputs, share, task.options, folder, plan).findings()
            while batch := list(islice(findings, _BATCH)):
                theirs.send(batch)
        theirs.send(None)
    except TowpathError as error:
        theirs.send(error)
    except Exception as error:  # whatever it is, it ends all the jobs with one line
        what = f"a job of the replay failed: {type(error).__name__}: {error}"
        theirs.send(SetupError(what, fix="with --jobs 1 it shows where"))


def die_with_parent() -> None:
    """A parent that was killed has ended nobody."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # noqa: S101  # for mypy: this is a job
    parent.join()
    os._exit(1)
