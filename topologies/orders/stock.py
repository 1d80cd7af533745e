"""The stock: what there is of each sku, which order holds how much of it, and what has left the shelf.

The one rule: `reserved` never exceeds `on_hand`; the table itself refuses it.

A reservation stays when it is shipped: `on_hand` and all that is shipped add up to what was ever put in stock.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Executable,
    ForeignKey,
    MetaData,
    String,
    Table,
    bindparam,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.engine import Connection

from streams.stage import Store
from topologies.orders.events import Demand, Shortage

_CHUNK: Final = 500  # skus in one look-up; an order has up to 1,000

tables = MetaData()
levels = Table(
    "stock",
    tables,
    Column("sku", String, primary_key=True),
    Column("on_hand", BigInteger, nullable=False),
    Column("reserved", BigInteger, nullable=False),
    CheckConstraint("on_hand >= 0 AND reserved >= 0 AND reserved <= on_hand", name="stock_never_oversold"),
)
reservations = Table(
    "reservations",
    tables,
    Column("order_id", String, primary_key=True),
    Column("sku", String, ForeignKey("stock.sku"), primary_key=True),
    Column("name", String, nullable=False),  # what the order called it
    Column("quantity", BigInteger, nullable=False),
    Column("shipped", Boolean, nullable=False),  # it has left the shelf, and is part of no level any more
    CheckConstraint("quantity > 0", name="reservation_of_something"),
)

# Statements are built once: building one costs more than SQLite takes to run it.
_free = select(levels.c.sku, levels.c.on_hand - levels.c.reserved).where(levels.c.sku.in_(bindparam("skus", expanding=True)))
_reserved = select(levels.c.sku, levels.c.reserved).where(levels.c.sku.in_(bindparam("skus", expanding=True)))
_change = update(levels).where(levels.c.sku == bindparam("of")).values(reserved=levels.c.reserved + bindparam("by"))
_leave = (
    update(levels)
    .where(levels.c.sku == bindparam("of"))
    .values(on_hand=levels.c.on_hand - bindparam("by"), reserved=levels.c.reserved - bindparam("by"))
)
_level = update(levels).where(levels.c.sku == bindparam("of")).values(on_hand=bindparam("to"))
_add = insert(levels)
_of_order = reservations.c.order_id == bindparam("order")
_on_shelf = _of_order & reservations.c.shipped.is_(False)
_held = select(reservations.c.sku, reservations.c.name, reservations.c.quantity).where(_on_shelf).order_by(reservations.c.sku)
_knows = select(reservations.c.sku).where(_of_order).limit(1)
_hold = insert(reservations)
_let_go = delete(reservations).where(_on_shelf)
_ship = update(reservations).where(_on_shelf).values(shipped=True)


class Stock:
    """The stock within one database transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def knows(self, order_id: str) -> bool:
        """Whether anything is set aside for an order, or has been shipped to it."""
        return self._connection.execute(_knows, {"order": order_id}).first() is not None

    def reserve(self, order_id: str, demand: Sequence[Demand]) -> tuple[Shortage, ...]:
        """Set all of it aside for an order that is not known yet, or nothing at all and say what there is too little of.

        `demand` names each sku once. A sku that the stock does not know is one that there is none of.
        """
        available = self._read(_free, [line.sku for line in demand])
        short = tuple(
            Shortage(line.sku, line.name, line.quantity, available.get(line.sku, 0))
            for line in demand
            if line.quantity > available.get(line.sku, 0)
        )
        if demand and not short:
            self._connection.execute(_change, [{"of": line.sku, "by": line.quantity} for line in demand])
            self._connection.execute(
                _hold,
                [
                    {"order_id": order_id, "sku": line.sku, "name": line.name, "quantity": line.quantity, "shipped": False}
                    for line in demand
                ],
            )
        return short

    def release(self, order_id: str) -> tuple[Demand, ...]:
        """Put back what an order holds, and say what that was; of an order that holds nothing, nothing."""
        demand = self._holding(order_id)
        if demand:
            self._connection.execute(_change, [{"of": line.sku, "by": -line.quantity} for line in demand])
            self._connection.execute(_let_go, {"order": order_id})
        return demand

    def ship(self, order_id: str) -> tuple[Demand, ...]:
        """Take what an order holds from the shelf, and say what that was; of an order that holds nothing, nothing."""
        demand = self._holding(order_id)
        if demand:
            self._connection.execute(_leave, [{"of": line.sku, "by": line.quantity} for line in demand])
            self._connection.execute(_ship, {"order": order_id})
        return demand

    def restock(self, free: Mapping[str, int]) -> None:
        """Make so many of each sku free to be reserved, beside what orders hold already."""
        reserved = self._read(_reserved, list(free))
        new = [{"sku": sku, "on_hand": count, "reserved": 0} for sku, count in free.items() if sku not in reserved]
        old = [{"of": sku, "to": count + free[sku]} for sku, count in reserved.items()]
        if new:
            self._connection.execute(_add, new)
        if old:
            self._connection.execute(_level, old)

    def _holding(self, order_id: str) -> tuple[Demand, ...]:
        return tuple(Demand(*row) for row in self._connection.execute(_held, {"order": order_id}))

    def _read(self, statement: Executable, skus: Sequence[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        for start in range(0, len(skus), _CHUNK):
            rows = self._connection.execute(statement, {"skus": skus[start : start + _CHUNK]})
            found.update((sku, count) for sku, count in rows)
        return found


stock = Store("stock", tables=tables, repository=Stock)
