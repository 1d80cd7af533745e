"""Intake: the first look at an order.

The one rule: every order that can be read is accepted or rejected, once; what is accepted can be trusted by everyone after.

A shop that got no answer sends an order again. As it was, it is no second order and nothing comes of it; with other content
under the same order number it is a case for people. How long a number is known: see `submissions.py`.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from streams.errors import Reject
from streams.stage import Context, Stage
from topologies.orders.events import Demand, OrderAccepted, OrderLine, OrderRejected, OrderSubmitted, readable
from topologies.orders.money import CURRENCIES, LARGEST
from topologies.orders.submissions import Seen, submissions

MOST_LINES: Final = 1000

intake = Stage("intake", store=submissions)


@intake.on
def accept(order: OrderSubmitted, ctx: Context) -> OrderAccepted | OrderRejected | None:
    """Check the order and add up its lines, or say what is wrong with it in words that its customer understands."""
    if readable(order.order_id):  # one without a number is rejected each time that it comes
        seen = ctx.use(submissions).take(order, ctx.now)
        if seen is Seen.OTHERWISE:
            raise Reject(f"order {order.order_id} was submitted before, with other content")
        if seen is Seen.AGAIN:
            return None
    return judge(order)


def judge(order: OrderSubmitted) -> OrderAccepted | OrderRejected:
    """What `accept` does with an order that comes for the first time."""
    flaw = _flaw(order)
    if flaw is None:
        demand = _demand(order.lines)
        total = sum([line.amount_minor for line in order.lines])
        flaw = _excess(demand, total)
    if flaw is not None:
        return OrderRejected(order.order_id, order.customer_id, flaw.code, flaw.reason)
    return OrderAccepted(order.order_id, order.customer_id, order.store_id, order.placed_at, order.currency, total, demand)


class _Flaw(msgspec.Struct, frozen=True):
    code: str
    reason: str


def _flaw(order: OrderSubmitted) -> _Flaw | None:
    """The first thing that is wrong with an order as it stands."""
    if not readable(order.order_id):
        return _Flaw("order-id-missing", "The order came without a readable order number.")
    if not readable(order.customer_id):
        return _Flaw("customer-id-missing", "The order came without a readable customer number.")
    if order.currency not in CURRENCIES:
        return _Flaw("currency-unknown", f"We do not know the currency “{_printable(order.currency)[:20]}”.")
    return _lines_flaw(order.lines)


def _lines_flaw(lines: Sequence[OrderLine]) -> _Flaw | None:
    if not lines:
        return _Flaw("no-lines", "There is nothing in the order.")
    if len(lines) > MOST_LINES:
        return _Flaw("too-many-lines", f"The order has {len(lines)} lines; we can take up to {MOST_LINES}.")
    for number, line in enumerate(lines, 1):
        if not readable(line.sku):
            return _Flaw("sku-missing", f"Line {number} of the order does not say which product it means.")
        if line.quantity <= 0:
            return _Flaw("bad-quantity", f"We cannot deliver a quantity of {line.quantity} of {_named(line)}.")
        if line.amount_minor <= 0:
            return _Flaw("bad-amount", f"There is no valid price for {_named(line)}.")
    return None


def _demand(lines: Iterable[OrderLine]) -> tuple[Demand, ...]:
    """Each sku once, in the order of the first line that names it."""
    quantities: dict[str, int] = {}
    called: dict[str, str] = {}
    for line in lines:
        sku = line.sku
        if sku in quantities:
            quantities[sku] += line.quantity
        else:
            quantities[sku] = line.quantity
            called[sku] = _named(line)
    return tuple([Demand(sku, called[sku], quantity) for sku, quantity in quantities.items()])


def _excess(demand: Iterable[Demand], total: int) -> _Flaw | None:
    """Sums that no event and no database column can hold."""
    if total > LARGEST:
        return _Flaw("total-too-large", "The order's total is larger than we can charge.")
    for line in demand:
        if line.quantity > LARGEST:
            return _Flaw("bad-quantity", f"We cannot deliver a quantity of {line.quantity} of {line.name}.")
    return None


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(filter(str.isprintable, text))


def _named(line: OrderLine) -> str:
    return _printable(line.name).strip() or line.sku
