"""Customers who change their minds: some before their order is paid for, some afterwards.

The one rule: who does follows from the order's id; whoever waits for the payment believes the topic alone.
"""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, Final

import msgspec
from confluent_kafka import Producer

from streams import topics
from streams.codec import Codec
from streams.config import Settings
from streams.record import event_info
from streams.registry import FolderRegistry
from streams.topology import Topology
from topologies.orders.demo.watch import CONFIRMED, Watch
from topologies.orders.events import OrderAccepted, OrderCancelled, OrderSubmitted
from topologies.orders.faults import Fate, Faults
from topologies.orders.intake import judge

_EARLY: Final = 0.01  # of the orders that intake accepts and nothing else befalls
_LATE: Final = 0.01


class Regret:
    """Cancels orders. `early` are cancelled before they are there, `late` when they were paid for."""

    def __init__(self, settings: Settings, topology: Topology, faults: Faults, orders: Iterable[Mapping[str, Any]]) -> None:
        self.early: set[str] = set()
        self.late: set[str] = set()
        for raw in orders:
            order = msgspec.convert(raw, OrderSubmitted)
            number = int.from_bytes(sha256(f"regret {order.order_id}".encode()).digest()[:8]) / 2**64
            if isinstance(judge(order), OrderAccepted) and faults.fate(order.order_id) is Fate.GOOD:
                if number < _EARLY:
                    self.early.add(order.order_id)
                elif number < _EARLY + _LATE:
                    self.late.add(order.order_id)
        self._waiting = set(self.late)
        self._encode = Codec([OrderCancelled], FolderRegistry(topology.schemas)).encoder(OrderCancelled)
        self._producer = Producer(topics.properties(settings, {"partitioner": "murmur2_random"}), logger=topics.QUIET)

    def before_payment(self) -> None:
        """Cancel some before anybody has heard of them: a cancellation may overtake its order."""
        self._cancel(self.early)

    def after_payment(self, watch: Watch) -> None:
        """Cancel others now that they are paid for."""
        paid = {order_id for order_id in self._waiting if watch.paid(order_id.encode())}
        self._cancel(paid)
        self._waiting -= paid

    def pending(self, watch: Watch) -> bool:
        """Whether one who changes their mind has been told of nothing but the confirmation."""
        ends = (watch.endings.get(order_id.encode(), ("", None))[0] for order_id in self.late)
        return any(ending == CONFIRMED for ending in ends)

    def _cancel(self, orders: Iterable[str]) -> None:
        for order_id in sorted(orders):
            event = OrderCancelled(order_id, "You have changed your mind.", "customer")
            self._producer.produce(event_info(OrderCancelled).topic, self._encode(event), order_id.encode())
        self._producer.flush(10)
