"""Lanes: how fast and how large a full table is, and whom a failing key delays.

The one rule: it is the session and the lanes that a worker has. What lanes cost while nothing is parked: benchmark `features`.
"""

import json
import subprocess
import sys
from typing import Any, Final

from confluent_kafka import Producer

from streams.errors import Retry
from streams.parked import Parked
from streams.record import Output, Record
from streams.testing import Simulation
from streams.topics import TopicSpec, apply
from tests.bench.ground import HEADERS, Ground
from topologies.orders import orders as flow
from topologies.orders.events import Demand, PaymentCaptured, StockReserved
from topologies.orders.ports import Captured, Charge, psp

_TOPIC: Final = "bench.restore"
_TABLE: Final = "bench.restore.retry"


def measure(ground: Ground, *, quick: bool) -> dict[str, Any]:
    """All of it."""
    return {
        "what": __doc__,
        "restore": {**_restore(ground, 10_000 if quick else 100_000), "targets": {"seconds": 5, "MiB": 300}},
        "cycles until done": {**_failing_key(), "target": 1},
    }


def _restore(ground: Ground, count: int) -> dict[str, Any]:
    """So many records of 1 KiB on the table of one partition."""
    apply([TopicSpec(_TOPIC, 1), TopicSpec(_TABLE, 1, {"cleanup.policy": "compact"})], ground.admin)
    producer = Producer({"bootstrap.servers": ground.bootstrap, "linger.ms": 20, "queue.buffering.max.messages": 500_000})
    for number in range(count):
        record = Record(_TOPIC, 0, number, b"key-%d" % number, b"%1024d" % number, HEADERS, 1_700_000_000_000)
        output: Output = Parked(record, number, attempt=1, due=4e9).output(_TABLE, "somebody")
        producer.produce(output.topic, output.value, output.key, 0, headers=list(output.headers))
        producer.poll(0)
    while producer.flush(1.0):
        pass
    command = [sys.executable, "-m", "tests.bench.restore", ground.bootstrap, _TOPIC, _TABLE]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=300).stdout)
    return found


class _Sick:
    """A provider that is always busy for one customer in ten."""

    async def capture(self, charge: Charge) -> Captured:
        if charge.customer_id == "bad":
            raise Retry("busy", after=0.001)
        return Captured("pay")


def _failing_key() -> dict[str, Any]:
    """On the broker in memory: the cycles from the poll of a record to its output, at most, with one in ten records failing."""
    most, done = 0, 0
    with Simulation(flow, stages=["payment"], ports={psp: _Sick()}) as simulation:
        simulation.run()
        (worker,) = simulation.workers
        for batch in range(50):
            for number in range(40):
                customer = "bad" if number % 10 == 0 else "good"
                order = f"bad-{number}" if customer == "bad" else f"{batch}-{number}"
                simulation.produce(StockReserved(order, customer, "USD", 1, (Demand("a", "a", 1),)))
            expected, cycles = 36 * (batch + 1), 0
            while done < expected:
                worker.cycle()
                cycles += 1
                done = len(simulation.outputs(PaymentCaptured))
            most = max(most, cycles)
            simulation.clock.advance(0.01)
        waiting = len(simulation.parked("payment"))
    return {"healthy records": done, "failing records parked meanwhile": waiting, "most cycles": most}
