"""Many runs, one seed after the other, in several processes.

The one rule: which seed fails does not depend on how many processes look for it; and none outlives the one that started it.
"""

import importlib
import logging
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from streams.errors import SetupError, TowpathError
from streams.garbage import collected_seldom
from streams.jobs import Pool
from streams.simulator.kit import Kit
from streams.simulator.run import Report, play
from streams.simulator.schedule import Schedule, generate
from streams.simulator.workload import Workload
from streams.topology import load


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
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # a run's workers die in hundreds
    try:
        with collected_seldom():
            yield kit
    finally:
        logging.disable(level)


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
        with Pool[Report]("a job of the simulator") as pool:
            for number in range(self._jobs):
                pool.start(
                    _reports, self._module, self._first + number, self._first + self._count if self._count else 0, self._jobs
                )
            for report in pool.messages(0.5):
                yield report
                if time.monotonic() >= deadline:
                    return


def _reports(module: str, seed: int, end: int, step: int) -> Iterator[Report]:
    """Every so-many-th seed, in the process of its job."""
    with prepared(module) as kit:
        while not end or seed < end:
            try:
                yield play(kit, scheduled(kit, seed))
            except TowpathError:
                raise
            except Exception as error:
                what = f"seed {seed}: the simulator failed: {type(error).__name__}: {error}"
                raise SetupError(what, fix=f"towpath simulate {module} --seed {seed} shows where") from error
            seed += step
