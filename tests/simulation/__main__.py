"""`python -m tests.simulation [NAME …]`: how many seeds it takes to find each mutation, or only those that are named.

The one rule: each has to be found within 2,000 seeds; else the exit code is 1.
"""

import logging
import sys
import time

from streams.simulator import Kit, play
from streams.simulator.campaign import scheduled
from tests.simulation.mutations import MUTATIONS, Mutation
from tests.simulation.test_simulator import kit

SEEDS = 2000


def hunt(mutation: Mutation, where: Kit) -> tuple[int | None, str]:
    """The first seed that finds it, and what it finds."""
    with mutation():
        for seed in range(SEEDS):
            if found := play(where, scheduled(where, seed)).findings:
                return seed, str(found[0])
    return None, ""


def main() -> int:
    logging.disable(logging.CRITICAL)
    wanted = set(sys.argv[1:])
    missed = 0
    for mutation, workload in MUTATIONS.items():
        name = mutation.__name__
        if wanted and name not in wanted:
            continue
        start = time.monotonic()
        seed, text = hunt(mutation, kit(workload))
        missed += seed is None
        count = "not found" if seed is None else f"{seed + 1} seeds"
        print(f"{name:26} {workload:7} {count:>11} {time.monotonic() - start:6.1f} s  {text[:100]}", flush=True)  # noqa: T201
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
