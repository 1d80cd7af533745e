"""What an event moved, in words: money and stock, for whoever reads an order's story.

The one rule: only what has moved is told. An event that asks for a move, such as a refund that is requested, moves nothing.
"""

from collections.abc import Sequence
from typing import Any

from topologies.orders.events import (
    Closing,
    Demand,
    OrderClosed,
    PaymentCaptured,
    PaymentRefunded,
    PaymentSettled,
    StockReleased,
    StockReserved,
)
from topologies.orders.money import amount


def moves(event: Any) -> str:
    """One line, or "" for an event that moved nothing."""
    match event:
        case StockReserved() | StockReleased():
            word = "set aside" if isinstance(event, StockReserved) else "for sale again"
            return f"stock {word}: {_lines(event.demand)}"
        case OrderClosed(closing=Closing.CONFIRMED):
            return "stock shipped"
        case PaymentCaptured() | PaymentRefunded():
            word = "taken" if isinstance(event, PaymentCaptured) else "given back"
            return f"money {word}: {amount(event.total_minor, event.currency)} ({event.payment_id})"
        case PaymentSettled():
            return f"money paid out to us: {amount(event.amount_minor, event.currency)} ({event.payment_id})"
    return ""


def _lines(demand: Sequence[Demand]) -> str:
    return ", ".join(f"{line.quantity} x {line.sku}" for line in demand) or "nothing"
