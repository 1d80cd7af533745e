"""The events of the order flow: what an order passes on its way, one class per topic.

The one rule: the schema `schemas/orders/<class>/v<n>.avsc` is the contract, the class follows it field by field.

Money is in minor units (cents) of an ISO 4217 currency; times are UTC, to the millisecond; an event carries whatever the
next stage needs, so that no stage asks another. `code` is for machines and stays the same; `reason` is for the customer.
"""

from datetime import datetime
from enum import StrEnum

import msgspec

from streams.record import event


def readable(identifier: str) -> bool:
    """Whether what comes from outside may name something: not blank, nor long, nor of what a database or a log chokes on."""
    return 0 < len(identifier) <= 255 and identifier.isprintable() and not identifier.isspace()


class OrderLine(msgspec.Struct, frozen=True):
    """A line as it was submitted, not yet trusted: quantity and amount may be 0 or less. `amount_minor` is the line's total."""

    sku: str
    name: str
    quantity: int
    amount_minor: int


class Demand(msgspec.Struct, frozen=True):
    """What an order takes of one sku, over all its lines. `quantity` is above 0."""

    sku: str
    name: str
    quantity: int


class Shortage(msgspec.Struct, frozen=True):
    """A sku that an order wants more of than there is."""

    sku: str
    name: str
    wanted: int
    available: int


class Ending(StrEnum):
    """How an order ended for its customer: paid for, turned down before payment, or without a payment in the end.

    An unpaid one was declined, not paid in time, or cancelled; the `Closing` beside it says which.
    """

    CONFIRMED = "confirmed"
    REJECTED = "rejected"
    UNPAID = "unpaid"


class Closing(StrEnum):
    """How an order that was accepted ended: paid for, declined, not paid in time, or cancelled."""

    CONFIRMED = "confirmed"
    DECLINED = "declined"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


@event("orders.submitted", key="order_id")
class OrderSubmitted(msgspec.Struct, frozen=True):
    """A customer's order as a shop sent it; nothing in it has been checked."""

    order_id: str
    customer_id: str
    store_id: str
    placed_at: datetime
    currency: str
    lines: tuple[OrderLine, ...]


@event("orders.cancelled", key="order_id")
class OrderCancelled(msgspec.Struct, frozen=True):
    """Somebody wants the order no more; it may come at any moment, even before the order. `reason` is for the customer.

    `by` says who: customer, shop, or whatever the producer calls it.
    """

    order_id: str
    reason: str
    by: str


@event("orders.accepted", key="order_id")
class OrderAccepted(msgspec.Struct, frozen=True):
    """An order that can be fulfilled: every sku once, in the order of the first line that named it."""

    order_id: str
    customer_id: str
    store_id: str
    placed_at: datetime
    currency: str
    total_minor: int
    demand: tuple[Demand, ...]


@event("orders.rejected", key="order_id")
class OrderRejected(msgspec.Struct, frozen=True):
    """An order that intake turned down. It has no total: its amounts may be what is wrong with it."""

    order_id: str
    customer_id: str
    code: str
    reason: str


@event("inventory.reserved", key="order_id")
class StockReserved(msgspec.Struct, frozen=True):
    """The order's whole demand is set aside for it."""

    order_id: str
    customer_id: str
    currency: str
    total_minor: int
    demand: tuple[Demand, ...]


@event("inventory.payment-due", key="order_id")
class PaymentDue(msgspec.Struct, frozen=True):
    """What inventory sends itself for later: by now the order should be paid for."""

    order_id: str


@event("inventory.rejected", key="order_id")
class StockRejected(msgspec.Struct, frozen=True):
    """Stock does not cover the order; nothing of it was set aside."""

    order_id: str
    customer_id: str
    currency: str
    total_minor: int
    code: str
    reason: str
    shortages: tuple[Shortage, ...]


@event("payments.captured", key="order_id")
class PaymentCaptured(msgspec.Struct, frozen=True):
    """The customer has paid. `payment_id` is the provider's own name of the payment."""

    order_id: str
    customer_id: str
    currency: str
    total_minor: int
    payment_id: str


@event("payments.failed", key="order_id")
class PaymentFailed(msgspec.Struct, frozen=True):
    """The provider declined: no money moved, the order's stock is still set aside."""

    order_id: str
    customer_id: str
    currency: str
    total_minor: int
    code: str
    reason: str


@event("payments.refund-requested", key="order_id")
class RefundRequested(msgspec.Struct, frozen=True):
    """Money was taken for an order that is not delivered: it goes back, all of it. Says why the order is not delivered."""

    order_id: str
    customer_id: str
    currency: str
    total_minor: int
    payment_id: str
    code: str
    reason: str


@event("payments.refunded", key="order_id")
class PaymentRefunded(msgspec.Struct, frozen=True):
    """The customer has the money back."""

    order_id: str
    customer_id: str
    currency: str
    total_minor: int
    payment_id: str
    code: str
    reason: str


@event("payments.settled", key="order_id")
class PaymentSettled(msgspec.Struct, frozen=True):
    """The provider has paid out what it took for us. It says so in a webhook; nothing but the signature has been checked."""

    order_id: str
    payment_id: str
    currency: str
    amount_minor: int
    settled_at: datetime


@event("payments.disputed", key="order_id")
class PaymentDisputed(msgspec.Struct, frozen=True):
    """A customer's bank wants a payment back. The provider says so, as of a settlement."""

    order_id: str
    payment_id: str
    currency: str
    amount_minor: int
    disputed_at: datetime


@event("orders.disputed", key="order_id")
class OrderDisputed(msgspec.Struct, frozen=True):
    """A payment that we have on our books is disputed."""

    order_id: str
    customer_id: str
    payment_id: str
    currency: str
    amount_minor: int


@event("orders.closed", key="order_id")
class OrderClosed(msgspec.Struct, frozen=True):
    """How an order that was accepted and found its stock ended: inventory decides, in one place, whatever raced for it.

    One that is cancelled after it was confirmed is closed once more. `payment_id` is that of a confirmed one; of all others
    `code` and `reason` say why.
    """

    order_id: str
    customer_id: str
    currency: str
    total_minor: int
    closing: Closing
    payment_id: str | None = None
    code: str | None = None
    reason: str | None = None


@event("inventory.released", key="order_id")
class StockReleased(msgspec.Struct, frozen=True):
    """What an order had set aside, or had been shipped, is for sale again. Says why, as whatever caused it did."""

    order_id: str
    customer_id: str
    currency: str
    total_minor: int
    code: str
    reason: str
    demand: tuple[Demand, ...]


@event("notifications.sent", key="order_id")
class NotificationSent(msgspec.Struct, frozen=True):
    """The customer was told how the order ended. `code` says why, unless it is confirmed.

    `closing` says exactly how an order that was accepted ended; of one that was rejected, and before version 3, it is None.
    """

    order_id: str
    customer_id: str
    ending: Ending
    subject: str
    message: str
    code: str | None = None
    closing: Closing | None = None

    @property
    def outcome(self) -> str:
        """How the order ended, in one word: what `towpath_e2e_duration_seconds` is told apart by."""
        return (self.closing or self.ending).value


@event("notifications.requested", key="subscriber_id")
class DeliveryRequested(msgspec.Struct, frozen=True):
    """A message that one subscriber is to be sent. `kind` is its ending, `disputed` or `refunded`.

    `delivery_id` is the same however often it is sent; `event_id` names what it tells of. It is the `lead` by which the
    customer hears of it: a letter takes its place if it cannot be delivered. `closing`: as in `NotificationSent`.
    """

    subscriber_id: str
    delivery_id: str
    event_id: str
    kind: str
    at: datetime
    order_id: str
    customer_id: str
    code: str | None
    subject: str
    message: str
    lead: bool
    closing: Closing | None = None
