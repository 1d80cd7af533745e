"""Many runs, one seed after the other, in several processes.

The one rule: which seed fails does not depend on how many processes look for it; and none outlives the one that started it.
"""

import gc
import importlib
import logging
import multiprocessing
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from streams.errors import SetupError, TowpathError
from streams.ops.replay.jobs import deaf, die_with_parent
from streams.simulator.kit import Kit
from streams.simulator.run import Report, play
from streams.simulator.schedule import Schedule, generate
from streams.simulator.workload import Workload
from streams.topology import load

_context = multiprocessing.get_context("spawn")


def find(module: str) -> Workload:
    """The workload in a topology's module, or in its module `workload`. Raises `SetupError`."""
    topology = load(module)
    places = [module]
    if hasattr(importlib.import_module(module), "__path__") and find_spec(f"{module}.workload") is not None:
        places.append(f"{module}.workload")
    for place in places:
        found = [value for value in vars(importlib.import_module(place)).values() if isinstance(value, Workload)]
        if len(found) == 1:
            return found[0]
    raise SetupError(
        f"nothing says how {topology.name} is to be simulated",
        where=module,
        fix=f"bind one Workload there, or in {module}.workload; docs/simulation.md shows how",
    )


@contextmanager
def prepared(module: str) -> Iterator[Kit]:
    """What all runs of a module share. Meanwhile the process logs nothing, and collects little garbage."""
    kit = Kit(find(module))
    level, thresholds = logging.root.manager.disable, gc.get_threshold()
    logging.disable(logging.CRITICAL)  # a run's workers die in hundreds
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)
    try:
        yield kit
    finally:
        logging.disable(level)
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def scheduled(kit: Kit, seed: int) -> Schedule:
    """The schedule of a seed."""
    workload = kit.workload
    return generate(seed, [stage.name for stage in kit.topology.stages], workload.workers)


class Campaign:
    """Runs of the seeds from `first` on: `count` of them, or without an end for 0."""

    def __init__(self, module: str, first: int, count: int, jobs: int) -> None:
        self._module = module
        self._first = first
        self._count = count
        self._jobs = min(jobs, count) if count else jobs

    def reports(self, seconds: float = 0.0) -> Generator[Report | None, None, None]:
        """A report for each seed, in the order in which they are done; `None` every now and then, so that a caller may look up.

        Ends after so many seconds, if they are above 0. At its end no job runs any more: whoever goes away early closes it.
        """
        deadline = time.monotonic() + seconds if seconds else float("inf")
        running: dict[Connection, SpawnProcess] = {}
        try:
            for number in range(self._jobs):
                ours, theirs = _context.Pipe(duplex=False)
                seeds = (self._first + number, self._first + self._count if self._count else 0, self._jobs)
                job = _context.Process(target=_job, args=(theirs, self._module, seeds), daemon=True)
                with deaf():
                    job.start()
                theirs.close()
                running[ours] = job
            open_ = set(running)
            while open_ and time.monotonic() < deadline:
                for ready in wait(list(open_), timeout=0.5):
                    assert isinstance(ready, Connection)  # noqa: S101  # for mypy: nothing else was asked for
                    report = _received(ready, running[ready])
                    if report is None:
                        open_.remove(ready)
                    else:
                        yield report
                yield None
        finally:
            for job in running.values():
                job.kill()
            for ours, job in running.items():
                job.join()
                ours.close()


def _received(ours: Connection, job: SpawnProcess) -> Report | None:
    """A job's next report, None at its end. Raises its error."""
    try:
        message: Report | TowpathError | None = ours.recv()
    except (EOFError, OSError):
        job.join()
        raise SetupError(f"a job died (exit code {job.exitcode})", fix="it may be memory: try fewer --jobs") from None
    if isinstance(message, TowpathError):
        raise message
    return message


def _job(theirs: Connection, module: str, seeds: tuple[int, int, int]) -> None:
    """One process: every so-many-th seed."""
    threading.Thread(target=die_with_parent, daemon=True).start()
    try:
        seed, end, step = seeds
        with prepared(module) as kit:
            while not end or seed < end:
                theirs.send(play(kit, scheduled(kit, seed)))
                seed += step
        theirs.send(None)
    except TowpathError as error:
        theirs.send(error)
    except Exception as error:  # whatever it is, it ends all the jobs with one line
        what = f"seed {seed}: the simulator failed: {type(error).__name__}: {error}"
        theirs.send(SetupError(what, fix=f"towpath simulate {module} --seed {seed} shows where"))
