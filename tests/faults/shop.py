"""A shop of another company: it sends orders at a steady rate, whatever becomes of them, and cancels some.

The one rule: open loop. It sends when an order is due, not when the flow has time, and what it has sent is on its topic once.
"""

import gzip
import json
import threading
import time
import uuid
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

from confluent_kafka import Producer

from tests.faults.collect import CONTRACTS
from tests.support.workers import ROOT

SAMPLE: Final = 2000
_CANCEL: Final = 20  # one in so many orders is cancelled
_LATER: Final = 25  # so many orders later
_SCARCE: Final = 40  # of one sku in so many there is none


def sample() -> list[dict[str, Any]]:
    """Orders as they come."""
    with gzip.open(ROOT / "topologies" / "orders" / "data" / "baskets.jsonl.gz") as packed:
        return [json.loads(line) for line in islice(packed, SAMPLE)]


def stocked(orders: list[dict[str, Any]]) -> dict[str, int]:
    """Plenty of every sku but a few."""
    skus = sorted({line["sku"] for order in orders for line in order["lines"]})
    return {sku: 0 if number % _SCARCE == 0 else 1_000_000 for number, sku in enumerate(skus)}


class Stuck(Exception):
    """The shop's producer sends no more, though the brokers are there: the round says nothing about the flow."""


class Shop:
    """One shop. It sends between `open` and `shut`; `sent` are the keys of the orders since it was last opened."""

    def __init__(self, bootstrap: str, rate: float) -> None:
        self.sent: list[bytes] = []
        self.rate = rate
        self._orders = sample()
        self._number = 0
        self._settings = {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "linger.ms": 2,
            "message.timeout.ms": 0,  # it waits for a broker for as long as that takes
            "log_level": 0,
        }
        self._producer = Producer(self._settings)
        self._shut = threading.Event()
        self._thread: threading.Thread | None = None
        self._failed: list[str] = []

    def open(self) -> None:
        """Begin to send."""
        self.sent, self._shut = [], threading.Event()
        self._thread = threading.Thread(target=self._run, name="shop", daemon=True)
        self._thread.start()

    def renew(self) -> None:
        """Go on with a producer that knows what partitions there are now."""
        old, self._producer = self._producer, Producer(self._settings)
        assert old.flush(30) == 0, "the shop cannot send"

    def shut(self, seconds: float = 120) -> None:
        """Send no more; wait until all that was sent is on its topic."""
        if self._thread is not None:
            self._shut.set()
            self._thread.join()
            self._thread = None
            left = self._producer.flush(seconds)
            if left:
                raise Stuck(f"{left} orders cannot be sent: the shop's own producer stands still")
            assert not self._failed, self._failed[:3]

    def large(self, count: int) -> None:
        """Send so many orders of 1000 lines, beside the others; intake will turn them down, for their currency."""
        line = {"sku": "a", "name": "a thing with a long name " * 4, "quantity": 1, "amount_minor": 1}
        at = datetime.now(UTC)
        for _ in range(count):
            key = f"large-{uuid.uuid4().hex}"
            order = {
                "order_id": key,
                "customer_id": "c",
                "store_id": "s",
                "placed_at": at,
                "currency": "?",
                "lines": [line] * 1000,
            }
            self.sent.append(key.encode())
            self._produce("orders.submitted", key, CONTRACTS.encode("OrderSubmitted", order | {"lines": [line] * 1000}))

    def _run(self) -> None:
        begin, first = time.monotonic(), self._number
        while not self._shut.is_set():
            wait = begin + (self._number - first) / self.rate - time.monotonic()
            self._producer.poll(max(wait, 0))
            if wait <= 0:
                self._send()

    def _send(self) -> None:
        number = self._number
        self._number += 1
        order = self._orders[number % SAMPLE]
        key = f"{number // SAMPLE}-{number % SAMPLE}-{order['order_id']}"
        self.sent.append(key.encode())
        said = order | {"order_id": key, "placed_at": datetime.fromisoformat(order["placed_at"])}
        self._produce("orders.submitted", key, CONTRACTS.encode("OrderSubmitted", said))
        if len(self.sent) % _CANCEL == 0 and len(self.sent) >= _LATER:
            key = self.sent[-_LATER].decode()
            said = {"order_id": key, "reason": "I want it no more.", "by": "customer"}
            self._produce("orders.cancelled", key, CONTRACTS.encode("OrderCancelled", said))

    def _produce(self, topic: str, key: str, value: bytes) -> None:
        self._producer.produce(topic, value, key, on_delivery=self._delivered)

    def _delivered(self, error: Any, _: Any) -> None:
        if error is not None:
            self._failed.append(str(error))
