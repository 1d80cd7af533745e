"""The whole flow: orders per second from a full orders.submitted to their customers' notification, on PostgreSQL.

The one rule: every order passes five transactions (inventory has it twice). It is watched from outside, by what notification
has committed, from its first commit to its last. Once with a process for each stage, and once with all stages in one process.
"""

import itertools
from collections.abc import Callable
from statistics import median
from typing import Any, Final

import msgspec

from streams import migrate, names
from streams.postgres import LocalPostgres
from tests.bench.ground import SUBMITTED, Ground, encoded, preload, some_orders
from tests.bench.processes import Processes
from tests.bench.throughput import by_turns, ratio, watch
from topologies.orders import orders as flow
from topologies.orders.seed import seed

_LAST: Final = (names.group(flow.name, "notification"), "orders.closed")


def measure(ground: Ground, *, quick: bool) -> dict[str, Any]:
    """By turns, each time with new orders and a new database."""
    records, rounds = (600, 1) if quick else (6000, 2)
    turn = itertools.count()
    stages = [stage.name for stage in flow.stages]
    with LocalPostgres.start(ground.directory / "postgres") as database:

        def run(*processes: tuple[str, ...]) -> Callable[[], float]:
            return lambda: _speed(ground, database.create(f"bench_{next(turn)}"), next(turn), records, processes)

        ways = {"a process for each stage": run(*((stage,) for stage in stages)), "one process": run(())}
        found = by_turns(ways, rounds, warm=False)
    one, many = found["one process"], found["a process for each stage"]
    return {
        "what": __doc__,
        "orders": records,
        "orders/s": found,
        "median": {name: median(speeds) for name, speeds in found.items()},
        "ratio": ratio(many, one),
    }


def _speed(ground: Ground, store: str, turn: int, count: int, processes: tuple[tuple[str, ...], ...]) -> float:
    orders = list(some_orders(count, f"whole-{turn}-"))
    settings = ground.settings(f"whole-{turn}", store)
    migrate.upgrade(store, migrate.stores(flow))
    seed(settings, [msgspec.to_builtins(order) for order in orders], short=0)
    before = ground.committed(*_LAST)
    with Processes(settings.directory) as started:
        for stages in processes:
            started.worker(settings, "topologies.orders", *stages)
        started.wait_until_ready()
        preload(ground.bootstrap, SUBMITTED, encoded(orders))
        return watch(ground, started, _LAST, before, count)
