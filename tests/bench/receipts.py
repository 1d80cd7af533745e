"""Receipts: what they cost a stage whose batches are full.

The one rule: a stage with receipts and one without do the same work on the same topic, by turns.
"""

from typing import Any

from tests.bench.ground import SUBMITTED, Ground, encoded, preload, some_orders
from tests.bench.throughput import by_turns, ratio, stage_speed


def measure(ground: Ground, *, quick: bool) -> dict[str, Any]:
    """By turns."""
    records, rounds = (60_000, 1) if quick else (200_000, 5)
    preload(ground.bootstrap, SUBMITTED, encoded(some_orders(records, "receipts-")))
    total = ground.count(SUBMITTED)
    ways = {
        "with": lambda: stage_speed(ground, total),
        "without": lambda: stage_speed(ground, total, program="tests.bench.receiptless"),
    }
    found = by_turns(ways, rounds)
    return {"what": __doc__, "msgs/s": found, "ratio": ratio(found["with"], found["without"]), "target": 0.97}
