"""The order flow, killed and stopped while it works: every order ends once, and stock and money add up.

Nothing of ours reads the result: aiokafka with read_committed, fastavro on the released schemas, SQLite's own driver.
A seed in TOWPATH_SEED repeats the blows of a failed run.
"""

import gzip
import json
import os
import random
import sqlite3
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from streams.config import Settings
from streams.local import FAILOVER, LocalKafka
from tests.support.contracts import Contracts
from tests.support.flow import header
from tests.support.pump import Blow, Pump, sender
from tests.support.reader import Reader
from tests.support.workers import ROOT, Crew, Worker, towpath, wait_for
from topologies.orders.seed import seed

ORDERS = 2000
MODULE = "topologies.orders"
STAGES = ("intake", "inventory", "payment", "notification")
ENDS = ("orders.closed", "orders.rejected", "inventory.rejected")
CAUSES = {
    "orders.accepted": {"orders.submitted"},
    "orders.rejected": {"orders.submitted"},
    "inventory.reserved": {"orders.accepted"},
    "inventory.rejected": {"orders.accepted"},
    "payments.captured": {"inventory.reserved"},
    "payments.failed": {"inventory.reserved"},
    "inventory.released": {"payments.failed"},
    "orders.closed": {"payments.captured", "payments.failed"},
    "notifications.sent": set(ENDS),
}
Levels = dict[str, tuple[int, int]]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LocalKafka]:
    """Its own: the topics of the order flow have names that any other test might use."""
    with LocalKafka.start(tmp_path / "kafka", overrides=FAILOVER) as kafka:
        yield kafka


@pytest.mark.timeout(400)
def test_every_order_ends_once_and_stock_adds_up_whoever_is_killed(tmp_path: Path, broker: LocalKafka) -> None:
    chance_seed = int(os.environ.get("TOWPATH_SEED", random.randrange(10**6)))
    print(f"TOWPATH_SEED={chance_seed}")  # noqa: T201  # to repeat a failed run
    orders = _orders()
    environment = {
        "TOWPATH_BOOTSTRAP": broker.bootstrap,
        "TOWPATH_DIR": str(tmp_path),
        "TOWPATH_STORE": f"sqlite:///{tmp_path / 'store.db'}",
    }
    towpath(environment, "topics", "apply", MODULE)
    towpath(environment, "db", "upgrade", MODULE)
    seeded = seed(Settings.load(environment), orders)
    before = _levels(tmp_path)
    with Crew(tmp_path, environment) as crew:
        workers = [crew.start(MODULE, stage, instance=copy) for stage in STAGES for copy in ("a", "b")]
        with Reader(broker.bootstrap, ["orders.submitted", *CAUSES]) as reader:
            crew.wait_until_ready(120)
            pump = Pump(reader, crew, _submitter(broker.bootstrap, orders), lambda: reader.count("notifications.sent"))
            pump.run(ORDERS, 300, _blows(workers, random.Random(chance_seed)))
            wait_for(lambda: not _reserved(tmp_path), 60, "stock stays reserved", crew.logs)
            crew.wait_until_ready()
            for worker in workers:
                assert worker.terminate()[0] == 0, worker.log[-3000:]
            reader.to_end()
    proven = json.loads(towpath(environment, "reconcile", MODULE))  # exit 0
    assert (proven["differences"], proven["unknown"], proven["counts"]["orders.submitted"]) == ([], {}, ORDERS)
    told = _Told(reader.records)
    told.check_ends(orders)
    told.check_causes()
    assert len(told.of("inventory.rejected")) == len(seeded.short)
    assert len(told.of("orders.rejected")) == seeded.rejected
    _check_stock(before, _levels(tmp_path), told.sold())
    for worker in workers:
        assert "Traceback" not in worker.log, worker.log[-3000:]


def _blows(workers: list[Worker], chance: random.Random) -> list[Blow]:
    """Three SIGKILLs and a SIGTERM at random moments; who is hit starts again at once, as the same instance."""

    def kill(worker: Worker) -> None:
        worker.kill()
        worker.start()

    def terminate(worker: Worker) -> None:
        code, seconds = worker.terminate()
        assert code == 0, worker.log[-3000:]
        assert seconds < 10
        worker.start()

    kinds: list[Callable[[Worker], None]] = [kill, kill, kill, terminate]
    chance.shuffle(kinds)
    moments = chance.sample(range(ORDERS // 20, ORDERS * 9 // 10), len(kinds))
    victims = chance.sample(workers, len(kinds))
    return [
        Blow(at, f"{kind.__name__} {worker.name}", partial(kind, worker))
        for at, kind, worker in zip(sorted(moments), kinds, victims, strict=True)
    ]


class _Told:
    """What the topics say at the end, decoded."""

    def __init__(self, records: dict[str, list[Any]]) -> None:
        contracts = Contracts(ROOT / "schemas")
        self._records = records
        self._events = {topic: [contracts.decode(record.value) for record in found] for topic, found in records.items()}

    def of(self, topic: str) -> list[dict[str, Any]]:
        return self._events[topic]

    def check_ends(self, orders: list[dict[str, Any]]) -> None:
        """Each order has one end, and one notification of it."""
        wanted = _ids(orders)
        assert _ids([event for topic in ENDS for event in self.of(topic)]) == wanted
        assert _ids(self.of("notifications.sent")) == wanted
        failed, released = self.of("payments.failed"), self.of("inventory.released")
        assert failed, "no payment failed: this run shows nothing of compensation"
        assert _ids(released) == _ids(failed)
        assert _ids(self.of("payments.captured") + failed) == _ids(self.of("inventory.reserved"))

    def check_causes(self) -> None:
        """Ids are unique; each event comes after its cause, of the same order, and each cause has led to one of a kind."""
        known: dict[bytes | None, tuple[str, Any]] = {}
        for topic, found in self._records.items():
            for record in found:
                assert header(record, "id") not in known
                known[header(record, "id")] = (topic, record)
        for topic, causes in CAUSES.items():
            assert len({header(record, "cause") for record in self._records[topic]}) == len(self._records[topic])
            for record in self._records[topic]:
                origin, cause = known[header(record, "cause")]
                assert origin in causes
                assert cause.key == record.key
                assert cause.timestamp <= record.timestamp

    def sold(self) -> Counter[str]:
        """How many of each sku were set aside for an order that was paid."""
        paid = {event["order_id"] for event in self.of("payments.captured")}
        reserved = [event for event in self.of("inventory.reserved") if event["order_id"] in paid]
        sold: Counter[str] = Counter()
        for event in reserved:
            for line in event["demand"]:
                sold[line["sku"]] += line["quantity"]
        return sold


def _ids(events: list[dict[str, Any]]) -> Counter[str]:
    return Counter(event["order_id"] for event in events)


def _check_stock(before: Levels, after: Levels, sold: Counter[str]) -> None:
    assert sum(sold.values()) > ORDERS  # else there was nothing to get wrong
    assert {sku: level for sku, level in after.items() if level != (before[sku][0] - sold[sku], 0)} == {}
    assert after.keys() == before.keys()


def _levels(directory: Path) -> Levels:
    with closing(sqlite3.connect(directory / "store.db")) as database:
        return {sku: (there, reserved) for sku, there, reserved in database.execute("SELECT sku, on_hand, reserved FROM stock")}


def _reserved(directory: Path) -> int:
    with closing(sqlite3.connect(directory / "store.db")) as database:
        return int(database.execute("SELECT sum(reserved) FROM stock").fetchone()[0])


def _orders() -> list[dict[str, Any]]:
    with gzip.open(ROOT / "topologies" / "orders" / "data" / "baskets.jsonl.gz") as sample:
        return [json.loads(line) for line in islice(sample, ORDERS)]


def _submitter(bootstrap: str, orders: list[dict[str, Any]]) -> Callable[[int], None]:
    """A shop of another company: it knows the schema and Kafka."""
    contracts, producer = Contracts(ROOT / "schemas"), sender(bootstrap)

    def submit(number: int) -> None:
        order = orders[number]
        value = contracts.encode("OrderSubmitted", order | {"placed_at": datetime.fromisoformat(order["placed_at"])})
        producer.produce("orders.submitted", value, order["order_id"], headers=[("id", uuid.uuid4().hex)])
        producer.poll(0)

    return submit
