"""A stage's metrics without a worker: the real engine on a broker in memory, and what a worker would say of it.

The one rule: what it shows has gone through the text that Prometheus reads, and its own parser.
"""

from typing import Any

from streams.kafka.stats import Statistics
from streams.standing import Standing
from streams.store import Inbox
from streams.tally import PROCESS, Spread, Tally, ends
from streams.telemetry import exposition, of_worker, read
from streams.testing import SimulatedWorker, Simulation
from tests.support.moves import Asked, World

STATS = (
    b'{"msg_cnt":3,"brokers":{"b1":{"source":"learned","state":"UP","rtt":{"p99":2500},"txerrs":1,"rxerrs":2,"req_timeouts":4},'
    b'"c":{"source":"logical","state":"UP","rtt":{"p99":9000},"txerrs":8}},'
    b'"topics":{"t":{"partitions":{"0":{"fetchq_cnt":5,"more":[1]}}}},"cgrp":{"rebalance_cnt":6}}'
).decode()


class Session:
    """What a Kafka session tells beside its records."""

    def __init__(self) -> None:
        self.why = ""
        self.statistics = Statistics()
        for role in ("member", "follower", "producer"):
            self.statistics.take(role, STATS)

    def waits(self) -> str:
        return self.why


def tallied(flow: Simulation, worker: SimulatedWorker) -> Tally:
    """Let a worker that has not begun count as a real one does."""
    sinks = [cls for cls in flow.topology.sinks if cls in worker.stage.emits]
    worker.engine.tally = Tally(ends(sinks, flow._codec))
    return worker.engine.tally


def eventful(flow: Simulation, worker: SimulatedWorker, at: World) -> None:
    """Records that are done, rejected and put off; then its dependency is away."""
    tallied(flow, worker)
    for number, moves in enumerate([("done:2",), ("reject",), ("wait:900",)]):
        flow.produce(Asked(f"k{number}", number, moves))
    flow.run()
    at.away = True
    flow.produce(Asked("k", 9))
    flow.run(seconds=1)


def standing(flow: Simulation, worker: SimulatedWorker) -> Standing:
    """How a simulated worker stands."""
    found = Standing(flow.topology.name, worker.stage, worker.instance)
    found.engine, found.member_since = worker.engine, 1.0
    found.session = Session()  # type: ignore[assignment]  # by what it is asked
    effects: Any = worker.engine._crew.effects
    found.inbox = effects if isinstance(effects, Inbox) else None
    return found


def page(found: Standing) -> str:
    """What `/metrics` answers."""
    own = of_worker("moves", "v1", Spread(PROCESS), (3, 0))
    return exposition([*own, *found.samples()], process=True).decode()


def samples(found: Standing) -> dict[tuple[str, ...], float]:
    """By name and the values of its labels, but for the topology and the stage, which are always the same."""
    return {
        (name, *(value for label, value in labels.items() if label not in ("topology", "stage", "messaging_system"))): value
        for name, labels, value in read(page(found))
    }
