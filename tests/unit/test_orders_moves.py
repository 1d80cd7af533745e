from datetime import UTC, datetime
from typing import Any

import pytest

from topologies.orders.events import (
    Closing,
    Demand,
    OrderClosed,
    PaymentCaptured,
    PaymentRefunded,
    PaymentSettled,
    RefundRequested,
    StockReleased,
    StockReserved,
)
from topologies.orders.moves import moves

DEMAND = (Demand("A1", "Anvil", 2), Demand("B7", "Bell", 1))


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (StockReserved("7", "8", "USD", 4990, DEMAND), "stock set aside: 2 x A1, 1 x B7"),
        (StockReleased("7", "8", "USD", 4990, "late", "too late", DEMAND), "stock for sale again: 2 x A1, 1 x B7"),
        (OrderClosed("7", "8", "USD", 4990, Closing.CONFIRMED, "p1"), "stock shipped"),
        (OrderClosed("7", "8", "USD", 4990, Closing.DECLINED), ""),
        (PaymentCaptured("7", "8", "USD", 4990, "p1"), "money taken: 49.90 USD (p1)"),
        (RefundRequested("7", "8", "USD", 4990, "p1", "late", "too late"), ""),
        (PaymentRefunded("7", "8", "USD", 4990, "p1", "late", "too late"), "money given back: 49.90 USD (p1)"),
        (PaymentSettled("7", "p1", "JPY", 4990, datetime.now(UTC)), "money paid out to us: 4990 JPY (p1)"),
    ],
)
def test_what_moved_is_told_and_what_is_only_asked_for_is_not(event: Any, said: str) -> None:
    assert moves(event) == said
