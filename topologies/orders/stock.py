"""The stock: what there is of each sku and which order holds how much of it.

The one rule: `reserved` never exceeds `on_hand`; the table itself refuses it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ColumnElement,
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
    CheckConstraint("quantity > 0", name="reservation_of_something"),
)

_change = (
    update(levels).where(levels.c.sku == bindparam("of")).values(reserved=levels.c.reserved + bindparam("by", type_=BigInteger))
)
_level = update(levels).where(levels.c.sku == bindparam("of")).values(on_hand=bindparam("to"))


class Stock:
    """The stock within one database transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def holds(self, order_id: str) -> bool:
        """Whether an order has anything set aside for it."""
        held = select(reservations.c.sku).where(reservations.c.order_id == order_id).limit(1)
        return self._connection.execute(held).first() is not None

    def reserve(self, order_id: str, demand: Sequence[Demand]) -> tuple[Shortage, ...]:
        """Set all of it aside for an order that holds nothing yet, or nothing at all and say what there is too little of.

        `demand` names each sku once. A sku that the stock does not know is one that there is none of.
        """
        available = self._available([line.sku for line in demand])
        short = tuple(
            Shortage(line.sku, line.name, line.quantity, available.get(line.sku, 0))
            for line in demand
            if line.quantity > available.get(line.sku, 0)
        )
        if demand and not short:
            self._connection.execute(_change, [{"of": line.sku, "by": line.quantity} for line in demand])
            self._connection.execute(
                insert(reservations),
                [{"order_id": order_id, "sku": line.sku, "name": line.name, "quantity": line.quantity} for line in demand],
            )
        return short

    def release(self, order_id: str) -> tuple[Demand, ...]:
        """Put back what an order holds, and say what that was; of an order that holds nothing, nothing."""
        columns = reservations.c.sku, reservations.c.name, reservations.c.quantity
        held = select(*columns).where(reservations.c.order_id == order_id).order_by(reservations.c.sku)
        demand = tuple(Demand(*row) for row in self._connection.execute(held))
        if demand:
            self._connection.execute(_change, [{"of": line.sku, "by": -line.quantity} for line in demand])
            self._connection.execute(delete(reservations).where(reservations.c.order_id == order_id))
        return demand

    def restock(self, free: Mapping[str, int]) -> None:
        """Make so many of each sku free to be reserved, beside what orders hold already."""
        reserved = dict(self._read(list(free), levels.c.reserved))
        new = [{"sku": sku, "on_hand": count, "reserved": 0} for sku, count in free.items() if sku not in reserved]
        old = [{"of": sku, "to": count + free[sku]} for sku, count in reserved.items()]
        if new:
            self._connection.execute(insert(levels), new)
        if old:
            self._connection.execute(_level, old)

    def _available(self, skus: Sequence[str]) -> dict[str, int]:
        return dict(self._read(skus, levels.c.on_hand - levels.c.reserved))

    def _read(self, skus: Sequence[str], column: ColumnElement[int]) -> Iterable[tuple[str, int]]:
        for start in range(0, len(skus), _CHUNK):
            found = select(levels.c.sku, column).where(levels.c.sku.in_(skus[start : start + _CHUNK]))
            yield from ((sku, count) for sku, count in self._connection.execute(found))


stock = Store("stock", tables=tables, repository=Stock)
