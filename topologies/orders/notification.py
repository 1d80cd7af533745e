"""Notification: whatever the end of an order is, its customer hears of it.

The one rule: no order ends in silence, and what its customer reads needs no glossary.
"""

from streams.stage import Context, Stage
from topologies.orders.events import Ending, NotificationSent, OrderRejected, PaymentCaptured, PaymentFailed, StockRejected
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
