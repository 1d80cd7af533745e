"""Payments under way while their agent is killed and their provider falls silent: what was charged, by the provider's books.

The one rule: the provider's own ledger and a client of Kafka that is none of ours say what happened; no worker is asked.

`python -m tests.support.charges [ORDERS]` prints the figures of one run at 100 orders per second.
"""

import sys
import tempfile
import threading
import time
from pathlib import Path

import msgspec
from confluent_kafka import Producer

from streams import topics
from streams.config import Settings
from streams.local import FAILOVER, LocalKafka
from tests.support.contracts import Contracts
from tests.support.psp import KEY, Psp
from tests.support.reader import Reader
from tests.support.workers import Crew, wait_for
from topologies.orders import orders as flow


class Figures(msgspec.Struct):
    """What came of `orders`. By the ledger: `charged` orders, and those charged `twice`. `captured` and `failed` are events.

    `unpaid`: captured events without a charge of that amount. `unheard`: charges without an event. `silent` counts the
    calls to the provider that got no answer; `seconds` from the first order to the last event.
    """

    orders: int
    kills: int
    charged: int
    twice: int
    captured: int
    failed: int
    unpaid: int
    unheard: int
    silent: int
    seconds: float


def measure(directory: Path, *, orders: int, rate: float = 100.0, timeouts: float = 0.05, kills: int = 2) -> Figures:
    """Send orders to be paid at a steady rate; kill the agent `kills` times while the provider falls silent after charging."""
    faults = f'{{"timeouts": {timeouts}, "hang": 30}}'
    with (
        LocalKafka.start(directory / "kafka", overrides=FAILOVER) as kafka,
        Psp(directory, "--faults", faults) as psp,
        Crew(
            directory,
            {
                "TOWPATH_BOOTSTRAP": kafka.bootstrap,
                "TOWPATH_DIR": str(directory),
                "TOWPATH_PSP_URL": psp.url,
                "TOWPATH_PSP_API_KEY": KEY,
                "TOWPATH_PSP_TIMEOUT": "1",
            },
        ) as crew,
    ):
        topics.apply(topics.plan(flow), topics.connect(Settings(bootstrap=kafka.bootstrap)))
        agent = crew.start("topologies.orders", "payment", instance="a")
        crew.wait_until_ready()
        began = time.monotonic()
        sending = threading.Thread(target=_send, args=(kafka.bootstrap, orders, rate))
        sending.start()
        with Reader(kafka.bootstrap, ["payments.captured", "payments.failed"]) as reader:
            for number in range(1, kills + 1):
                share = orders * number // (kills + 1)
                wait_for(lambda share=share: len(psp.moves("capture")) >= share, 120, f"not {share} are charged", crew.logs)  # type: ignore[misc]
                agent.kill()
                agent.start()
            sending.join()
            # After two deaths the agent works record by record for a while: see streams/deaths.py.
            whole = lambda: reader.count("payments.captured", "payments.failed") >= orders  # noqa: E731  # a condition
            wait_for(whole, 180 + orders / 8, "not all payments have ended", crew.logs)
            seconds = time.monotonic() - began
            reader.to_end()
            silent = agent.log.count("asking what became of it")
            return _count(orders, psp, reader, Figures(orders, kills, 0, 0, 0, 0, 0, 0, silent, seconds))


def _send(bootstrap: str, orders: int, rate: float) -> None:
    contracts = Contracts(flow.schemas)
    producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "linger.ms": 2})
    start = time.monotonic()
    for number in range(orders):
        while (wait := start + number / rate - time.monotonic()) > 0:
            producer.poll(wait)
        order = {"order_id": f"o{number}", "customer_id": "c", "currency": "EUR", "total_minor": 100 + number, "demand": []}
        producer.produce("inventory.reserved", contracts.encode("StockReserved", order), f"o{number}")
    assert producer.flush(60) == 0


def _count(orders: int, psp: Psp, reader: Reader, figures: Figures) -> Figures:
    contracts = Contracts(flow.schemas)
    charges = psp.moves("capture")
    captured = [contracts.decode(record.value) for record in reader.records["payments.captured"]]
    paid = {event["order_id"] for event in captured}
    failed = {contracts.decode(record.value)["order_id"] for record in reader.records["payments.failed"]}
    assert len(paid) + len(failed) == len(paid | failed) == orders, "each order ended one way"
    figures.charged = len(charges)
    figures.twice = sum(len(amounts) > 1 for amounts in charges.values())
    figures.captured, figures.failed = len(captured), len(reader.records["payments.failed"])
    figures.unpaid = sum(charges.get(event["order_id"]) != [event["total_minor"]] for event in captured)
    figures.unheard = len(charges.keys() - paid)
    return figures


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="towpath-") as home:
        result = measure(Path(home), orders=int(sys.argv[1]) if len(sys.argv) > 1 else 6000)
    sys.stdout.write(f"{msgspec.json.format(msgspec.json.encode(result)).decode()}\n")
