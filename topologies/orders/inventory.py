"""Inventory: stock is set aside for an order, shipped when it is paid for, and put back when it is not to be.

The one rule: an order gets all of its lines or none; what becomes of it is decided here, by where it stands when a thing comes.

Payment, cancellation and deadline race for an order. The first one moves it, the others find it moved: see `progress.py`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from streams.config import Settings
from streams.errors import Reject, SetupError
from streams.stage import Backoff, Context, Later, Port, Stage
from topologies.orders.events import (
    Closing,
    OrderAccepted,
    OrderCancelled,
    OrderClosed,
    PaymentCaptured,
    PaymentDue,
    PaymentFailed,
    RefundRequested,
    StockRejected,
    StockReleased,
    StockReserved,
    readable,
)
from topologies.orders.progress import Order, State, What, moves
from topologies.orders.stock import Stock, stock

PAYMENT_DEADLINE: Final = 900.0

Released = StockReleased | OrderClosed | RefundRequested


@contextmanager
def _deadline(settings: Settings) -> Iterator[float]:
    text = settings.variables.get("payment_deadline", str(PAYMENT_DEADLINE))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 30 * 86_400:
        raise SetupError(
            f"{text!r} is no time to pay", where="TOWPATH_PAYMENT_DEADLINE", fix="use seconds, above 0 and up to 30 days"
        )
    yield seconds


deadline: Port[float] = Port("deadline", _deadline, pure=True)
"""How long a reservation waits to be paid for: TOWPATH_PAYMENT_DEADLINE, in seconds (default 900)."""

inventory = Stage("inventory", retry=Backoff(attempts=6, first=0.2, ceiling=60), store=stock, ports=[deadline])


@inventory.on
def reserve(
    order: OrderAccepted, ctx: Context
) -> tuple[StockReserved | Later[PaymentDue], ...] | StockRejected | OrderClosed | None:
    """Take the order's lines from stock until it is paid for, or say which line is short."""
    shelf = ctx.use(stock)
    known = shelf.order(order.order_id)
    if known.state not in (State.NEW, State.WITHDRAWN):
        return None  # a shop that sends an order twice must not have it paid twice: the first is on its way
    what = (order.order_id, order.customer_id, order.currency, order.total_minor)
    if known.state is State.WITHDRAWN:
        shelf.set_order(order.order_id, Order(State.CANCELLED, *what[1:]), ctx.now)
        return OrderClosed(*what, Closing.CANCELLED, None, "cancelled", known.note)
    shortages = shelf.reserve(order.order_id, order.demand)
    shelf.set_order(order.order_id, Order(State.SHORT if shortages else State.RESERVED, *what[1:]), ctx.now)
    if shortages:
        reason = f"We do not have enough of {_listed([shortage.name for shortage in shortages])}."
        return StockRejected(*what, "out-of-stock", reason, shortages)
    return StockReserved(*what, order.demand), Later(PaymentDue(order.order_id), ctx.use(deadline))


@inventory.on
def ship(paid: PaymentCaptured, ctx: Context) -> OrderClosed | RefundRequested | None:
    """Take what is paid for from the shelf. Money for an order that has ended otherwise goes back."""
    shelf = ctx.use(stock)
    order = shelf.order(paid.order_id)
    (after,) = moves(paid.order_id, order, What.CAPTURED)
    what = (paid.order_id, paid.customer_id, paid.currency, paid.total_minor)
    if order.payment_id is not None:
        if order.payment_id != paid.payment_id:
            raise Reject(f"order {paid.order_id} is paid for with {paid.payment_id}, and was with {order.payment_id} before")
        return None
    shelf.set_order(paid.order_id, Order(after, *what[1:], paid.payment_id), ctx.now)
    if after is State.REFUNDED:
        return RefundRequested(*what, paid.payment_id, *_WHY[order.state])
    return OrderClosed(*what, Closing.CONFIRMED, paid.payment_id) if shelf.ship(paid.order_id) else None


@inventory.on
def release(failed: PaymentFailed, ctx: Context) -> tuple[Released, ...]:
    """Put the order's lines back on sale."""
    shelf = ctx.use(stock)
    order = shelf.order(failed.order_id)
    (after,) = moves(failed.order_id, order, What.FAILED)
    if after is order.state:
        return ()
    order = Order(order.state, failed.customer_id, failed.currency, failed.total_minor)
    return _end(shelf, failed.order_id, order, after, (failed.code, failed.reason), ctx.now)


@inventory.on
def cancel(cancelled: OrderCancelled, ctx: Context) -> tuple[Released, ...]:
    """Put the order's lines back on sale, and give back what was paid for them; or remember it until the order comes."""
    order_id = cancelled.order_id
    if not readable(order_id):
        raise Reject("a cancellation without a readable order number")
    shelf = ctx.use(stock)
    order = shelf.order(order_id)
    (after,) = moves(order_id, order, What.CANCELLED)
    if after is order.state:
        return ()
    reason = _printable(cancelled.reason) or _WHY[State.CANCELLED][1]
    if after is State.WITHDRAWN:
        shelf.set_order(order_id, Order(after, note=reason), ctx.now)
        return ()
    if not order.customer_id:
        raise Reject(f"order {order_id} was reserved by an older version, which did not write down whose it is")
    return _end(shelf, order_id, order, after, ("cancelled", reason), ctx.now)


@inventory.on
def expire(due: PaymentDue, ctx: Context) -> tuple[Released, ...]:
    """Put the order's lines back on sale if it has not been paid for by now."""
    shelf = ctx.use(stock)
    order = shelf.order(due.order_id)
    (after,) = moves(due.order_id, order, What.DUE)
    return () if after is order.state else _end(shelf, due.order_id, order, after, _WHY[after], ctx.now)


_WHY: Final = {
    State.DECLINED: ("declined", "Your bank had declined the payment."),
    State.EXPIRED: ("expired", "The payment did not come in time."),
    State.CANCELLED: ("cancelled", "The order was cancelled."),
}
_CLOSING: Final = {
    State.DECLINED: Closing.DECLINED,
    State.EXPIRED: Closing.EXPIRED,
    State.CANCELLED: Closing.CANCELLED,
    State.REFUNDED: Closing.CANCELLED,
}


def _end(shelf: Stock, order_id: str, order: Order, after: State, why: tuple[str, str], now: float) -> tuple[Released, ...]:
    """Take back what the order has, and say so: stock, and money if there was any."""
    what = (order_id, order.customer_id, order.currency, order.total_minor)
    shelf.set_order(order_id, msgspec.structs.replace(order, state=after), now)
    demand = shelf.take_back(order_id) if order.state is State.SHIPPED else shelf.release(order_id)
    ended = (StockReleased(*what, *why, demand), OrderClosed(*what, _CLOSING[after], None, *why))
    return (*ended, RefundRequested(*what, order.payment_id, *why)) if order.payment_id is not None else ended


def _printable(text: str) -> str:
    return "".join(filter(str.isprintable, text)).strip()[:500]


def _listed(names: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`, `a, b, c and 2 more`."""
    if len(names) > 3:
        names = [*names[:3], f"{len(names) - 3} more"]
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
