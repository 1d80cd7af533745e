"""Scaling: one stage with 1, 2 and 4 partitions to read, and with 1, 2 and 4 worker processes, by turns.

The one rule: the records of a partition are the same in each run, and time runs from when every worker has its partitions.
Workers, broker and watcher share the machine's cores, so that no more can come of it than there are cores.
"""

from statistics import median
from typing import Any

from tests.bench.ground import SUBMITTED, Ground, encoded, preload, some_orders
from tests.bench.throughput import by_turns, ratio, stage_speed

_RUNS = ((1, 4), (2, 4), (4, 4), (1, 1), (1, 2))  # workers, partitions


def measure(ground: Ground, *, quick: bool) -> dict[str, Any]:
    """By turns."""
    records, rounds = (120_000, 1) if quick else (400_000, 2)
    preload(ground.bootstrap, SUBMITTED, encoded(some_orders(records, "scaling-")))
    ways = {
        f"{workers} of {partitions}": lambda workers=workers, partitions=partitions: stage_speed(
            ground, workers=workers, partitions=partitions
        )
        for workers, partitions in _RUNS
    }
    found = by_turns(ways, rounds, warm=False)
    one = found["1 of 4"]
    return {
        "what": __doc__,
        "records": records,
        "msgs/s": found,
        "median": {name: median(speeds) for name, speeds in found.items()},
        "ratios to one worker with 4 partitions": {name: ratio(speeds, one) for name, speeds in found.items()},
    }
