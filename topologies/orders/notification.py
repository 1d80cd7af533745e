"""Notification: whatever the end of an order is, its customer hears of it.

The one rule: no order ends in silence, and what its customer reads needs no glossary.
"""

from hashlib import blake2b

from streams.stage import Context, Stage
from topologies.orders.events import (
    DeliveryRequested,
    Ending,
    NotificationSent,
    OrderDisputed,
    OrderRejected,
    PaymentCaptured,
    PaymentFailed,
    StockRejected,
)
from topologies.orders.money import amount
from topologies.orders.ports import Letter, mail
from topologies.orders.subscribers import subscribers

notification = Stage("notification", store=subscribers, ports=[mail])

End = PaymentCaptured | OrderRejected | StockRejected | PaymentFailed


@notification.on
def notify(end: End, ctx: Context) -> tuple[NotificationSent | DeliveryRequested, ...]:
    """Tell the customer, and whoever else wants to know, how the order ended."""
    ending, subject, message = render(end)
    code = None if isinstance(end, PaymentCaptured) else end.code
    letter = Letter(ctx.event_id, ctx.time, end.order_id, end.customer_id, subject, message)
    deliveries = _tell(letter, ending.value, code, ctx)
    if any(delivery.lead for delivery in deliveries):
        return deliveries  # the end is told when the lead has been delivered
    return (NotificationSent(end.order_id, end.customer_id, ending, subject, message, code), *deliveries)


@notification.on
def acknowledge(disputed: OrderDisputed, ctx: Context) -> tuple[DeliveryRequested, ...]:
    """Tell the customer that we know of the dispute. It ends no order, so nothing more comes of it."""
    wanted = amount(disputed.amount_minor, disputed.currency)
    subject = f"Your bank disputes the payment of order {disputed.order_id}"
    message = (
        f"Your bank has asked for {wanted} back, which you paid for order {disputed.order_id} (payment reference: "
        f"{disputed.payment_id}). You need not do anything: we look into it and write to you."
    )
    letter = Letter(ctx.event_id, ctx.time, disputed.order_id, disputed.customer_id, subject, message)
    return _tell(letter, "disputed", None, ctx)


def _tell(letter: Letter, kind: str, code: str | None, ctx: Context) -> tuple[DeliveryRequested, ...]:
    """A message to each subscriber. The customer's first one is the lead; a customer without any gets the letter, now."""
    own, everybodys = ctx.use(subscribers).of(letter.customer_id)
    if not own:
        ctx.use(mail).send(letter)
    return tuple(
        DeliveryRequested(
            subscriber_id,
            _delivery_id(letter.event_id, subscriber_id),
            letter.event_id,
            kind,
            letter.written_at,
            letter.order_id,
            letter.customer_id,
            code,
            letter.subject,
            letter.message,
            lead=subscriber_id == own[0] if own else False,
        )
        for subscriber_id in (*own, *everybodys)
    )


def _delivery_id(event_id: str, subscriber_id: str) -> str:
    """Of this event to this subscriber, whoever else subscribes: a receiver knows by it what it has already had."""
    return f"msg_{blake2b(f'{event_id}/{subscriber_id}'.encode(), digest_size=16).hexdigest()}"


def render(end: End) -> tuple[Ending, str, str]:
    """How it ended, the subject line and the message."""
    order = f"order {end.order_id}" if end.order_id.strip() else "order"
    match end:
        case PaymentCaptured():
            paid = amount(end.total_minor, end.currency)
            return (
                Ending.CONFIRMED,
                f"Your {order} is confirmed",
                f"Thank you! We have received {paid} for your {order} and are packing it. Payment reference: {end.payment_id}.",
            )
        case PaymentFailed():
            due = amount(end.total_minor, end.currency)
            return (
                Ending.UNPAID,
                f"Your {order} could not be paid",
                f"We could not charge {due} for your {order}. {end.reason} No money was taken, and nothing is on its way.",
            )
        case OrderRejected() | StockRejected():
            return (
                Ending.REJECTED,
                f"We cannot deliver your {order}",
                f"We are sorry: we cannot deliver your {order}. {end.reason} You have not been charged.",
            )
