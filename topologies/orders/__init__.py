"""The order flow: from `orders.submitted` to `notifications.sent`.

The one rule: this page is the whole graph; what flows between the stages is in their handlers' annotations.
"""

from pathlib import Path

from streams.topology import Topology
from topologies.orders.books import books
from topologies.orders.delivery import delivery
from topologies.orders.events import (
    NotificationSent,
    OrderCancelled,
    OrderSubmitted,
    PaymentDisputed,
    PaymentSettled,
    StockReleased,
)
from topologies.orders.intake import intake
from topologies.orders.inventory import inventory
from topologies.orders.moves import moves
from topologies.orders.notification import notification
from topologies.orders.payment import payment
from topologies.orders.settlement import settlement

orders = Topology(
    "orders",
    sources=[OrderSubmitted, OrderCancelled, PaymentSettled, PaymentDisputed],
    stages=[intake, inventory, payment, settlement, notification, delivery],
    sinks=[StockReleased, NotificationSent],
    joint=[NotificationSent],  # told at once by letter, or when the customer's own subscriber has taken it
    partitions=4,
    schemas=Path(__file__).parents[2] / "schemas",
    books=books,
    moves=moves,
)
