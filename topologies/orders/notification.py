"""Notification: whatever the end of an order is, its customer hears of it.

The one rule: no order ends in silence, and what its customer reads needs no glossary.
"""

from hashlib import blake2b

from streams.stage import Context, Stage
from topologies.orders.events import (
    Closing,
    DeliveryRequested,
    Ending,
    NotificationSent,
    OrderClosed,
    OrderDisputed,
    OrderRejected,
    PaymentRefunded,
    StockRejected,
)
from topologies.orders.money import amount
from topologies.orders.ports import Letter, mail
from topologies.orders.subscribers import subscribers

notification = Stage("notification", store=subscribers, ports=[mail])

End = OrderClosed | OrderRejected | StockRejected


@notification.on
def notify(end: End, ctx: Context) -> tuple[NotificationSent | DeliveryRequested, ...]:
    """Tell the customer, and whoever else wants to know, how the order ended."""
    ending, subject, message = render(end)
    letter = Letter(ctx.event_id, ctx.time, end.order_id, end.customer_id, subject, message)
    closing = end.closing if isinstance(end, OrderClosed) else None
    deliveries = _tell(letter, (ending.value, end.code, closing), ctx)
    if any(delivery.lead for delivery in deliveries):
        return deliveries  # the end is told when the lead has been delivered
    return (NotificationSent(end.order_id, end.customer_id, ending, subject, message, end.code, closing), *deliveries)


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
    return _tell(letter, ("disputed", None, None), ctx)


@notification.on
def return_money(refunded: PaymentRefunded, ctx: Context) -> tuple[DeliveryRequested, ...]:
    """Tell the customer that the money is on its way back. The order's end has been told, or is."""
    subject = f"We have given back your payment of order {refunded.order_id}"
    message = (
        f"We have given back {amount(refunded.total_minor, refunded.currency)}, which you paid for order {refunded.order_id} "
        f"(payment reference: {refunded.payment_id}). {refunded.reason}"
    )
    letter = Letter(ctx.event_id, ctx.time, refunded.order_id, refunded.customer_id, subject, message)
    return _tell(letter, ("refunded", refunded.code, None), ctx)


def _tell(letter: Letter, what: tuple[str, str | None, Closing | None], ctx: Context) -> tuple[DeliveryRequested, ...]:
    """A message to each subscriber. The customer's first one is the lead; a customer without any gets the letter, now.

    `what` it tells of, for machines: kind, code and closing.
    """
    kind, code, closing = what
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
            closing=closing,
        )
        for subscriber_id in (*own, *everybodys)
    )


def _delivery_id(event_id: str, subscriber_id: str) -> str:
    """Of this event to this subscriber, whoever else subscribes: a receiver knows by it what it has already had."""
    return f"msg_{blake2b(f'{event_id}/{subscriber_id}'.encode(), digest_size=16).hexdigest()}"


def render(end: End) -> tuple[Ending, str, str]:
    """How it ended, the subject line and the message."""
    order = f"order {end.order_id}" if end.order_id.strip() else "order"
    if not isinstance(end, OrderClosed):
        return (
            Ending.REJECTED,
            f"We cannot deliver your {order}",
            f"We are sorry: we cannot deliver your {order}. {end.reason} You have not been charged.",
        )
    money = amount(end.total_minor, end.currency)
    match end.closing:
        case Closing.CONFIRMED:
            return (
                Ending.CONFIRMED,
                f"Your {order} is confirmed",
                f"Thank you! We have received {money} for your {order} and are packing it. "
                f"Payment reference: {end.payment_id}.",
            )
        case Closing.DECLINED:
            return (
                Ending.UNPAID,
                f"Your {order} could not be paid",
                f"We could not charge {money} for your {order}. {end.reason} No money was taken, and nothing is on its way.",
            )
        case Closing.EXPIRED:
            subject, what = f"Your {order} has expired", f"We have not received {money} for your {order} in time."
        case Closing.CANCELLED:
            subject, what = f"Your {order} is cancelled", f"Your {order} is cancelled. {end.reason}"
    rest = f"Nothing is on its way. Should {money} have been taken, we give it back at once and write to you again."
    return Ending.UNPAID, subject, f"{what} {rest}"
