"""Faults of all kinds in a row, in an order that a seed decides.

The one rule: a seed repeats the order of a failed run.
"""

import os
import random
import time
from collections.abc import Callable
from functools import partial

from tests.faults import on_brokers
from tests.faults.arena import Arena
from tests.faults.on_network import between_worker_and_broker, broker_cut_off
from tests.support.workers import Worker


def mixed(arena: Arena, blows: int = 8) -> None:
    """Workers and brokers die, freeze and are cut off, one upon the other, without time to come to themselves."""
    seed = int(os.environ.get("TOWPATH_SEED", random.randrange(10**6)))
    arena.note(f"TOWPATH_SEED={seed}")
    chance = random.Random(seed)
    kinds: list[Callable[[], None]] = [
        lambda: kill(chance.choice(arena.workers)),
        lambda: kill(chance.choice(arena.workers)),
        lambda: freeze(arena, chance.choice(arena.workers)),
        partial(on_brokers.any_broker, arena, chance),
        partial(between_worker_and_broker("black-hole"), arena),
        partial(between_worker_and_broker("reset"), arena),
        partial(broker_cut_off("black-hole"), arena),
        lambda: both(arena, chance),
    ]
    chance.shuffle(kinds)
    for strike in kinds[:blows]:
        strike()
        arena.last(chance.uniform(0, 3))
    arena.struck(time.monotonic())


def kill(worker: Worker) -> None:
    """SIGKILL, and a new start."""
    worker.kill()
    worker.start()


def freeze(arena: Arena, worker: Worker) -> None:
    """Longer than a session."""
    worker.freeze()
    arena.last(10)
    worker.thaw()


def both(arena: Arena, chance: random.Random) -> None:
    """A broker and a worker at the same moment."""
    node = chance.choice(arena.cluster.nodes)
    node.kill()
    kill(chance.choice(arena.workers))
    arena.last(5)
    node.begin()
    arena.whole()
