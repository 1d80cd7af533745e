"""The books of the order flow, held against one another: orders, stock, payments, the provider's statement, notifications.

The one rule: what inventory and settlement have in the database is what their events say; an order that has something on its
way at a stage is not compared with what that stage writes.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from streams.books import Books, Difference, Evidence, Fact, Value
from streams.errors import SetupError
from streams.record import event_info
from streams.snapshot import snapshot
from topologies.orders import progress, statement
from topologies.orders.accounts import payments
from topologies.orders.events import (
    Closing,
    DeliveryRequested,
    Demand,
    NotificationSent,
    OrderClosed,
    OrderRejected,
    PaymentCaptured,
    PaymentFailed,
    PaymentRefunded,
    RefundRequested,
    StockRejected,
    StockReserved,
)
from topologies.orders.progress import State
from topologies.orders.stock import levels, reservations

_ORDERS: Final = "database: orders"
_HELD: Final = "database: reservations"
_PAID: Final = "database: payments"
_LEVEL: Final = "\0level "
_YOUNG: Final = 1000  # milliseconds before the database was read, from which on events may be newer than it: clocks differ
_FLIGHT: Final = 60_000  # milliseconds that a payment may be stated before it is published
_REBUILD: Final = "compare with `towpath rebuild topologies.orders {}`, then correct the row"
_OF: Final = {
    cls: event_info(cls).topic
    for cls in (
        StockReserved, StockRejected, OrderClosed, RefundRequested, PaymentCaptured, PaymentFailed, PaymentRefunded,
        OrderRejected, NotificationSent, DeliveryRequested,
    )
}  # fmt: skip
Facts = dict[str, list[Fact]]


def _demand(demand: Iterable[Demand]) -> str:
    return " ".join(f"{line.quantity}x{line.sku}" for line in sorted(demand, key=lambda line: line.sku))


def _load(evidence: Evidence) -> None:
    """Databases first, then statements: what they say is then in the topics already."""
    for table, source in ((progress.orders, _ORDERS), (reservations, _HELD), (payments, _PAID), (levels, _LEVEL)):
        found = not evidence.databases
        for url in evidence.databases:
            with snapshot(url, "") as read:
                if not read.connection.dialect.has_table(read.connection, table.name):
                    continue
                found = True
                names = [column.name for column in table.columns]
                rows = (dict(zip(names, row, strict=True)) for row in read.rows(table))
                evidence.put(source, _rows(source, rows))
        if not found:
            fix = "run `towpath db upgrade topologies.orders`, or name the database with --database"
            raise SetupError(f"no database has the table {table.name}", where="--database", fix=fix)
    evidence.put(statement.SOURCE, statement.lines(evidence.statements))


def _rows(source: str, rows: Iterable[dict[str, Value]]) -> Iterator[tuple[str, int, tuple[Value, ...]]]:
    names = {
        _ORDERS: ("state", "currency", "total_minor", "payment_id"),
        _HELD: ("sku", "quantity", "shipped"),
        _PAID: ("payment_id", "currency", "captured_minor", "refunded_minor", "settled_minor"),
        _LEVEL: ("reserved",),
    }[source]
    for row in rows:
        key = f"{_LEVEL}{row['sku']}" if source == _LEVEL else str(row["order_id"])
        yield key, 0, tuple(row[name] for name in names)


def _check(evidence: Evidence) -> Iterator[Difference]:
    days: set[int] = set()
    levels_: dict[str, int] = {}
    held: Counter[str] = Counter()
    for order, facts in evidence.by_key():
        of: Facts = defaultdict(list)
        for fact in facts:
            of[fact.source].append(fact)
        if order == statement.DAYS:
            days = {int(fact.values[0] or 0) for fact in facts}
            continue
        if order.startswith(_LEVEL):
            levels_[order.removeprefix(_LEVEL)] = int(facts[0].values[0] or 0)
            continue
        for fact in of[_HELD]:
            held[str(fact.values[0])] += 0 if fact.values[2] else int(fact.values[1] or 0)
        if any(fact.at >= evidence.taken_at - _YOUNG for fact in facts if fact.source != statement.SOURCE):
            continue
        yield from _order(order, of, evidence, days)
    for sku in sorted(levels_.keys() | held.keys()) if evidence.databases else ():
        if levels_.get(sku, 0) != held[sku]:
            ours, theirs = f"{held[sku]} reserved by orders", f"{levels_.get(sku, 0)} reserved by the level"
            yield Difference("stock-level", "database: stock", (sku,), ours, theirs, _REBUILD.format("inventory"))


def _order(order: str, of: Facts, evidence: Evidence, days: set[int]) -> Iterator[Difference]:
    waiting = {str(fact.values[0]) for fact in of["waiting"]}
    if evidence.databases and "inventory" not in waiting:
        yield from _stock(order, of, whole=evidence.whole)
    if evidence.databases and "settlement" not in waiting:
        yield from _accounts(order, of, whole=evidence.whole)
    if evidence.statements and "payment" not in waiting:
        captured = of[_OF[PaymentCaptured]]
        published = {"capture": captured, "refund": of[_OF[PaymentRefunded]]}
        stated = of[statement.SOURCE]
        failed = of[_OF[PaymentFailed]]
        wrong = list(statement.status(order, failed, stated, bool(captured)))
        yield from wrong
        until = evidence.taken_at - _FLIGHT
        yield from statement.compare(order, published, stated, days, until=until, whole=evidence.whole and not wrong)
        yield from statement.settled(order, of[_PAID], stated, evidence.taken_at)
    if evidence.whole and not waiting & {"notification", "delivery"}:
        ends = [fact for cls in (OrderRejected, StockRejected, OrderClosed) for fact in of[_OF[cls]]]
        if ends and not of[_OF[NotificationSent]] and not of[_OF[DeliveryRequested]]:
            ours = f"it ended: {ends[0].values[0]}"
            repair = "replay notification with --emit missing"
            yield Difference("notification-missing", "notification", (order,), ours, "nobody was told", repair, ends[0].at)


def _stated(of: Facts) -> State | None:
    """Where inventory's own events say that an order is."""
    closed = of[_OF[OrderClosed]]
    if of[_OF[RefundRequested]]:
        return State.REFUNDED
    if closed:
        last = Closing(str(closed[-1].values[0]))
        return State.SHIPPED if last is Closing.CONFIRMED else State(last.value)
    if of[_OF[StockRejected]]:
        return State.SHORT
    return State.RESERVED if of[_OF[StockReserved]] else None


def _stock(order: str, of: Facts, *, whole: bool) -> Iterator[Difference]:
    """The order's row and what it holds, against what inventory has said of it."""
    rows, state = of[_ORDERS], _stated(of)
    repair = _REBUILD.format("inventory")
    ids = (order,)
    if state is None:
        if whole and (rows and rows[0].values[0] != State.WITHDRAWN.value):
            yield Difference("stock-extra", _ORDERS, ids, "no event of it", f"it is {rows[0].values[0]}", repair)
        return
    told = next(facts[0] for cls in (StockReserved, StockRejected, OrderClosed, RefundRequested) if (facts := of[_OF[cls]]))
    if not rows:
        yield Difference("stock-missing", _ORDERS, ids, f"it is {state.value}", "no row", repair, told.at)
        return
    word, currency, total, _ = rows[0].values
    if word != state.value:
        yield Difference("stock-state", _ORDERS, ids, f"it is {state.value}", f"it is {word}", repair, told.at)
    if (currency, total) != told.values[1:3]:
        ours, theirs = f"{told.values[2]} {told.values[1]}", f"{total} {currency}"
        yield Difference("stock-amount", _ORDERS, ids, ours, theirs, repair, told.at)
    if reserved := of[_OF[StockReserved]]:
        wanted = str(reserved[0].values[3]) if state in (State.RESERVED, State.SHIPPED) else ""
        shipped = state is State.SHIPPED
        lines = sorted((str(sku), int(quantity or 0)) for sku, quantity, _ in (fact.values for fact in of[_HELD]))
        found = " ".join(f"{quantity}x{sku}" for sku, quantity in lines)
        if found != wanted or any(bool(fact.values[2]) is not shipped for fact in of[_HELD]):
            theirs = f"{found or 'nothing'}{', shipped' if any(fact.values[2] for fact in of[_HELD]) else ''}"
            ours = f"{wanted or 'nothing'}{', shipped' if shipped else ''}"
            yield Difference("stock-lines", _HELD, ids, ours, theirs, repair, told.at)


def _accounts(order: str, of: Facts, *, whole: bool) -> Iterator[Difference]:
    """The payments of an order on our books, against those published."""
    rows = {str(fact.values[0]): fact.values for fact in of[_PAID]}
    refunds = {str(fact.values[0]): fact for fact in of[_OF[PaymentRefunded]]}
    repair = _REBUILD.format("settlement")
    for fact in of[_OF[PaymentCaptured]]:
        payment, currency, amount = fact.values
        row = rows.pop(str(payment), None)
        ids, ours = (str(payment), order), f"{amount} {currency}"
        if row is None:
            yield Difference("account-missing", _PAID, ids, ours, "no row", repair, fact.at)
            continue
        if row[1:3] != (currency, amount):
            yield Difference("account-amount", _PAID, ids, ours, f"{row[2]} {row[1]}", repair, fact.at)
        refund = refunds.get(str(payment))
        if refund is not None and row[3] != refund.values[2]:
            ours, theirs = f"{refund.values[2]} given back", f"{row[3] or 'nothing'} given back"
            yield Difference("account-refund", _PAID, ids, ours, theirs, repair, refund.at)
    for payment, row in rows.items() if whole else ():
        yield Difference("account-extra", _PAID, (payment, order), "no capture of it", f"{row[2]} {row[1]}", repair)


books: Final = Books(
    note={
        StockReserved: lambda e: (e.order_id, ("reserved", e.currency, e.total_minor, _demand(e.demand))),
        StockRejected: lambda e: (e.order_id, ("short", e.currency, e.total_minor)),
        OrderClosed: lambda e: (e.order_id, (e.closing.value, e.currency, e.total_minor)),
        RefundRequested: lambda e: (e.order_id, (e.payment_id, e.currency, e.total_minor)),
        PaymentCaptured: lambda e: (e.order_id, (e.payment_id, e.currency, e.total_minor)),
        PaymentFailed: lambda e: (e.order_id, (e.code,)),
        PaymentRefunded: lambda e: (e.order_id, (e.payment_id, e.currency, e.total_minor)),
        OrderRejected: lambda e: (e.order_id, (e.code,)),
        NotificationSent: lambda e: (e.order_id, (e.ending.value,)),
        DeliveryRequested: lambda e: (e.order_id, (e.kind,)),
    },
    load=_load,
    check=_check,
)
"""What `towpath reconcile topologies.orders` compares beside the topics."""
