"""The stock as one event found it, told by what came of the event: a replay of inventory asks no database.

The one rule: an answer is given only where the outputs prove it; what they do not tell is `Undecidable`.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from streams.errors import Undecidable
from streams.stage import Past
from topologies.orders.events import (
    Closing,
    Demand,
    OrderAccepted,
    OrderCancelled,
    OrderClosed,
    PaymentCaptured,
    RefundRequested,
    Shortage,
    StockRejected,
    StockReleased,
    StockReserved,
)
from topologies.orders.progress import Order, State

_ENDED: Final[Mapping[str, State]] = {
    "declined": State.DECLINED,
    "expired": State.EXPIRED,
    "cancelled": State.CANCELLED,
}


class RecordedShelf:
    """See `topologies.orders.stock.Stock`. What is written to it goes nowhere."""

    def __init__(self, past: Past) -> None:
        self._event = past.event
        self._reserved, self._rejected = past.output(StockReserved), past.output(StockRejected)
        self._closed, self._refund = past.output(OrderClosed), past.output(RefundRequested)
        released = past.output(StockReleased)
        self._demand = released.demand if released else ()

    def order(self, order_id: str) -> Order:
        """How far the order had come."""
        event, closed, refund = self._event, self._closed, self._refund
        if isinstance(event, OrderAccepted):
            if self._reserved or self._rejected:
                return Order()
            return Order(State.WITHDRAWN, note=closed.reason or "") if closed else Order(State.RESERVED)
        if isinstance(event, PaymentCaptured) and closed is None:
            what = (event.customer_id, event.currency, event.total_minor)
            if refund is None:
                return Order(State.SHIPPED, *what, event.payment_id)
            if refund.code not in _ENDED:
                raise Undecidable(f"nothing says how order {order_id} had ended")
            return Order(_ENDED[refund.code], *what)
        if closed is not None:
            what = (closed.customer_id, closed.currency, closed.total_minor)
            return Order(State.SHIPPED, *what, refund.payment_id) if refund else Order(State.RESERVED, *what)
        if isinstance(event, OrderCancelled):
            raise Undecidable(f"nothing says whether order {order_id} had ended or had not come yet")
        return Order(State.CANCELLED)

    def set_order(self, order_id: str, order: Order, now: float) -> None:
        """Goes nowhere."""

    def reserve(self, order_id: str, demand: Sequence[Demand]) -> tuple[Shortage, ...]:
        """What was short, if no more is asked for than was then."""
        if self._rejected is not None:
            return self._rejected.shortages
        had = {line.sku: line.quantity for line in self._reserved.demand} if self._reserved else {}
        if short := [line.sku for line in demand if line.quantity > had.get(line.sku, 0)]:
            raise Undecidable(f"order {order_id} wants more of {short[0]} than then: nothing says whether there was so much")
        return ()

    def release(self, order_id: str) -> tuple[Demand, ...]:  # noqa: ARG002  # as `Stock`
        """What was put back."""
        return self._demand

    def take_back(self, order_id: str) -> tuple[Demand, ...]:  # noqa: ARG002  # as `Stock`
        """What was put back."""
        return self._demand

    def ship(self, order_id: str) -> tuple[Demand, ...]:
        """Something, if anything was taken from the shelf; what it was is on no topic."""
        confirmed = self._closed is not None and self._closed.closing is Closing.CONFIRMED
        return (Demand(order_id, order_id, 1),) if confirmed else ()
