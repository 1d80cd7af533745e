"""Notification: whatever the end of an order is, its customer hears of it.

The one rule: no order ends in silence, and what its customer reads needs no glossary.
"""

from streams.stage import Context, Stage
from topologies.orders.events import (
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

notification = Stage("notification", ports=[mail])

End = PaymentCaptured | OrderRejected | StockRejected | PaymentFailed


@notification.on
def notify(end: End, ctx: Context) -> NotificationSent:
    """Tell the customer how the order ended."""
    ending, subject, message = render(end)
    code = None if isinstance(end, PaymentCaptured) else end.code
    ctx.use(mail).send(Letter(ctx.event_id, ctx.time, end.order_id, end.customer_id, subject, message))
    return NotificationSent(end.order_id, end.customer_id, ending, subject, message, code)


@notification.on
def acknowledge(disputed: OrderDisputed, ctx: Context) -> None:
    """Tell the customer that we know of the dispute. It ends no order, so nothing more comes of it."""
    wanted = amount(disputed.amount_minor, disputed.currency)
    subject = f"Your bank disputes the payment of order {disputed.order_id}"
    message = (
        f"Your bank has asked for {wanted} back, which you paid for order {disputed.order_id} (payment reference: "
        f"{disputed.payment_id}). You need not do anything: we look into it and write to you."
    )
    ctx.use(mail).send(Letter(ctx.event_id, ctx.time, disputed.order_id, disputed.customer_id, subject, message))


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
