"""Inventory: stock is set aside for an order, shipped when it is paid for, and put back when it is not.

The one rule: an order gets all of its lines or none.
"""

from streams.errors import Reject
from streams.stage import Backoff, Context, Stage
from topologies.orders.events import (
    OrderAccepted,
    PaymentCaptured,
    PaymentFailed,
    StockRejected,
    StockReleased,
    StockReserved,
)
from topologies.orders.stock import stock

inventory = Stage("inventory", retry=Backoff(attempts=6, first=0.2, ceiling=60), store=stock)


@inventory.on
def reserve(order: OrderAccepted, ctx: Context) -> StockReserved | StockRejected | None:
    """Take the order's lines from stock, or say which line is short."""
    shelf = ctx.use(stock)
    if shelf.knows(order.order_id):
        return None  # a shop that sends an order twice must not have it paid twice: the first is on its way
    shortages = shelf.reserve(order.order_id, order.demand)
    if not shortages:
        return StockReserved(order.order_id, order.customer_id, order.currency, order.total_minor, order.demand)
    return StockRejected(
        order.order_id,
        order.customer_id,
        order.currency,
        order.total_minor,
        "out-of-stock",
        f"We do not have enough of {_listed([shortage.name for shortage in shortages])}.",
        shortages,
    )


@inventory.on
def ship(paid: PaymentCaptured, ctx: Context) -> None:
    """Take what is paid for from the shelf. Money for nothing is a case for people."""
    shelf = ctx.use(stock)
    if not shelf.ship(paid.order_id) and not shelf.knows(paid.order_id):
        raise Reject(f"order {paid.order_id} is paid for with {paid.payment_id}, but nothing is set aside for it")


@inventory.on
def release(failed: PaymentFailed, ctx: Context) -> StockReleased:
    """Put the order's lines back on sale."""
    return StockReleased(
        failed.order_id,
        failed.customer_id,
        failed.currency,
        failed.total_minor,
        failed.code,
        failed.reason,
        ctx.use(stock).release(failed.order_id),
    )


def _listed(names: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`, `a, b, c and 2 more`."""
    if len(names) > 3:
        names = [*names[:3], f"{len(names) - 3} more"]
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
