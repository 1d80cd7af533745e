"""What each feature costs: a bare loop, a stage that does no more, and then one feature after the other, by turns.

The one rule: each step does the same work on the same topic as the one before it and has one thing more. Its ratio is to the
step before. The inbox is on a PostgreSQL of its own; traces go to a server that throws them away.
"""

import itertools
from collections.abc import Callable
from itertools import pairwise
from statistics import median
from typing import Any, Final

from streams import migrate, topics
from streams.postgres import LocalPostgres
from tests.bench.flow import bench
from tests.bench.ground import SUBMITTED, Ground, encoded, preload, some_orders
from tests.bench.kept import kept
from tests.bench.processes import Processes, free_port
from tests.bench.throughput import by_turns, group_speed, ratio, stage_speed

_ACCEPTED: Final = "bench.loop"
TARGETS: Final = {"+ lanes": 0.95, "+ receipts": 0.97, "+ metrics": 0.97}


def measure(ground: Ground, *, quick: bool) -> dict[str, Any]:
    """By turns."""
    records, rounds = (20_000, 1) if quick else (100_000, 2)
    preload(ground.bootstrap, SUBMITTED, encoded(some_orders(records, "features-")))
    ground.make_topics([_ACCEPTED])
    topics.apply([spec for spec in topics.plan(kept) if spec.name.startswith(kept.name)], ground.admin)
    turn = itertools.count()
    traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{(port := free_port())}", "OTEL_TRACES_SAMPLER": "traceidratio"}
    with (
        LocalPostgres.start(ground.directory / "postgres") as database,
        Processes(ground.settings("sink").directory) as processes,
    ):
        processes.sink(port)
        processes.wait_until_ready()

        def inbox() -> float:
            store = database.create(f"bench_{next(turn)}")  # else its inbox would know every order
            migrate.upgrade(store, migrate.stores(kept))
            return stage_speed(ground, kept, store=store)

        ways: dict[str, Callable[[], float]] = {
            "bare loop": lambda: _loop(ground, f"bench.loop.{next(turn)}", records),
            "stage": lambda: stage_speed(ground, program="tests.bench.plain"),
            "+ lanes": lambda: stage_speed(ground, program="tests.bench.receiptless"),
            "+ receipts": lambda: stage_speed(ground, program="tests.bench.tallyless"),
            "+ metrics": lambda: stage_speed(ground),
            "+ traces of 1 in 100": lambda: stage_speed(ground, more=traced | {"OTEL_TRACES_SAMPLER_ARG": "0.01"}),
            "+ traces of all": lambda: stage_speed(ground, more=traced),
            "+ inbox (without traces)": inbox,
        }
        ways["bare loop"]()  # to warm the broker up
        found = by_turns(ways, rounds, warm=False)
    before = {later: earlier for earlier, later in pairwise(ways)} | {"+ inbox (without traces)": "+ metrics"}
    before["+ traces of all"] = "+ metrics"
    return {
        "what": __doc__,
        "records": records,
        "flow": bench.name,
        "msgs/s": found,
        "median": {name: median(speeds) for name, speeds in found.items()},
        "before": before,
        "ratios": {later: ratio(found[later], found[earlier]) for later, earlier in before.items()},
        "targets": TARGETS,
    }


def _loop(ground: Ground, group: str, records: int) -> float:
    return group_speed(ground, group, records, lambda these: these.loop(ground.bootstrap, group, SUBMITTED, _ACCEPTED))
