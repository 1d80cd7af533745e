"""The stock: what there is of each sku, which order holds how much of it, and how far the order has come.

The one rule: `reserved` never exceeds `on_hand`; the table itself refuses it.

A batch's rows are read and locked at once, changed in memory, and written at once: an order costs no journey to the database.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    String,
    Table,
    bindparam,
    delete,
    func,
    select,
)
from sqlalchemy.engine import Connection

from streams.rows import Among, Changes, Rows, Undo
from streams.stage import Store
from topologies.orders import progress
from topologies.orders.events import Demand, OrderAccepted, Shortage, readable
from topologies.orders.progress import LAST, Order, Progress, State
from topologies.orders.recorded import RecordedShelf

REMEMBERED: Final = 90 * 86_400
"""Seconds that an order is known in any case once it has ended: for so long it can be cancelled and its money given back.

A deadline, at most 30 days, always finds its order.
"""

_SKU: Final = String().with_variant(String(collation="C"), "postgresql")  # sorted as Python sorts: see `_lock`

tables = progress.tables  # one store
levels = Table(
    "stock",
    tables,
    Column("sku", _SKU, primary_key=True),
    Column("on_hand", BigInteger, nullable=False),
    Column("reserved", BigInteger, nullable=False),
    CheckConstraint("on_hand >= 0 AND reserved >= 0 AND reserved <= on_hand", name="stock_never_oversold"),
)
reservations = Table(
    "reservations",
    tables,
    Column("order_id", String, primary_key=True),
    Column("sku", _SKU, ForeignKey("stock.sku"), primary_key=True),
    Column("name", String, nullable=False),  # what the order called it
    Column("quantity", BigInteger, nullable=False),
    Column("shipped", Boolean, nullable=False),  # it has left the shelf, and is part of no level any more
    CheckConstraint("quantity > 0", name="reservation_of_something"),
)

# Statements are built once: building one costs more than the database takes to run it.
# Everybody locks skus in their order, so that two batches that want the same ones never wait in a circle.
_levels = select(levels.c.sku, levels.c.on_hand, levels.c.reserved).order_by(levels.c.sku)
_lock_levels = Among(levels.c.sku, lambda these: _levels.where(these).with_for_update(key_share=True))
_of_orders = Among(reservations.c.order_id, select(reservations).where)
_let_go = delete(reservations).where((reservations.c.order_id == bindparam("order")) & (reservations.c.sku == bindparam("of")))
_shipped = select(reservations.c.sku, func.sum(reservations.c.quantity)).where(reservations.c.shipped).group_by("sku")
_totals = select(func.sum(levels.c.on_hand), func.sum(levels.c.reserved))
_ended = progress.orders.c.state.in_(sorted(LAST)) & (progress.orders.c.changed_at < bindparam("before"))
_forget_lines = delete(reservations).where(reservations.c.order_id.in_(select(progress.orders.c.order_id).where(_ended)))
_forget = delete(progress.orders).where(_ended)
_level_rows = Rows(levels, replace=True)
_held_rows = Rows(reservations, replace=True)


class _Level(msgspec.Struct, frozen=True):
    on_hand: int
    reserved: int


class _Held(msgspec.Struct, frozen=True):
    name: str
    quantity: int
    shipped: bool


class Stock:
    """The stock within one database transaction; see `streams.store.Bulk`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._undo = Undo()
        self._levels: Changes[_Level] = Changes(self._undo)
        self._orders: Changes[Mapping[str, _Held]] = Changes(self._undo)
        self._progress = Progress(connection, self._undo)

    # -- what an order does ---------------------------------------------------------------------------------------------

    def order(self, order_id: str) -> Order:
        """How far an order has come."""
        order = self._progress.of(order_id)
        if order is not None:
            return order
        lines = self._order(order_id).values()  # an older version of inventory wrote down no more than these
        state = State.SHIPPED if any(line.shipped for line in lines) else State.RESERVED if lines else State.NEW
        return Order(state)

    def set_order(self, order_id: str, order: Order, now: float) -> None:
        """It has come so far. `now` is in seconds since the Unix epoch."""
        self._progress.set(order_id, msgspec.structs.replace(order, changed_at=int(now * 1000)))

    def reserve(self, order_id: str, demand: Sequence[Demand]) -> tuple[Shortage, ...]:
        """Set all of it aside for an order that has nothing yet, or nothing at all and say what there is too little of.

        `demand` names each sku once. A sku that the stock does not know is one that there is none of. Raises `ValueError`
        for an order that has something.
        """
        if self._order(order_id):
            raise ValueError(f"order {order_id} has been here before")
        self._lock([line.sku for line in demand])
        free = {sku: level.on_hand - level.reserved for line in demand if (level := self._levels[sku := line.sku])}
        short = tuple(
            Shortage(line.sku, line.name, line.quantity, free.get(line.sku, 0))
            for line in demand
            if line.quantity > free.get(line.sku, 0)
        )
        if demand and not short:
            self._move({line.sku: (0, line.quantity) for line in demand})
            self._orders[order_id] = {line.sku: _Held(line.name, line.quantity, shipped=False) for line in demand}
        return short

    def release(self, order_id: str) -> tuple[Demand, ...]:
        """Put back what an order holds, and say what that was; of an order that holds nothing, nothing."""
        return self._end(order_id, shipped=False)

    def ship(self, order_id: str) -> tuple[Demand, ...]:
        """Take what an order holds from the shelf, and say what that was; of an order that holds nothing, nothing."""
        return self._end(order_id, shipped=True)

    def take_back(self, order_id: str) -> tuple[Demand, ...]:
        """Put back on the shelf what was shipped to an order, and say what that was; of one without it, nothing."""
        gone = {sku: line for sku, line in sorted(self._order(order_id).items()) if line.shipped}
        if gone:
            self._lock(gone)
            self._move({sku: (line.quantity, 0) for sku, line in gone.items()})
            self._orders[order_id] = {sku: line for sku, line in self._order(order_id).items() if not line.shipped}
        return tuple(Demand(sku, line.name, line.quantity) for sku, line in gone.items())

    def restock(self, free: Mapping[str, int]) -> None:
        """Make so many of each sku free to be reserved, beside what orders hold already."""
        self._lock(free)
        for sku, count in free.items():
            reserved = level.reserved if (level := self._levels[sku]) else 0
            self._levels[sku] = _Level(reserved + count, reserved)

    def tally(self) -> tuple[Counter[str], int, int]:
        """How much of each sku was shipped in all, and how many units are on hand and, of these, reserved."""
        shipped = Counter({sku: int(count) for sku, count in self._connection.execute(_shipped)})
        on_hand, reserved = self._connection.execute(_totals).one()
        return shipped, int(on_hand or 0), int(reserved or 0)

    def forget(self, before: float) -> int:
        """Forget orders that ended before a time (seconds since the Unix epoch), and `REMEMBERED` ago. How many."""
        old = {"before": int(min(before, time.time() - REMEMBERED) * 1000)}
        self._connection.execute(_forget_lines, old)
        return self._connection.execute(_forget, old).rowcount

    # -- the batch ------------------------------------------------------------------------------------------------------

    def expect(self, events: Sequence[Any]) -> None:
        """Read what is known of these events' orders, and lock the levels of every sku that they will touch."""
        events = [event for event in events if readable(event.order_id)]  # the others are refused, and no database takes them
        self._progress.read({event.order_id for event in events})
        self._read({event.order_id for event in events})
        skus = {line.sku for event in events if isinstance(event, OrderAccepted) for line in event.demand}
        self._lock(skus.union(*(self._orders[event.order_id] or () for event in events)))

    def event(self) -> Undo:
        """Undo in memory what an event that fails did."""
        return self._undo

    def flush(self) -> None:
        """Write what has changed since it was read."""
        self._progress.flush()
        changed = [
            {"sku": sku, "on_hand": level.on_hand, "reserved": level.reserved} for sku, _, level in self._levels.changed()
        ]
        held: list[dict[str, object]] = []
        let_go = []
        for order_id, known, now in self._orders.changed():
            before = known or {}
            let_go += [{"order": order_id, "of": sku} for sku in before.keys() - now.keys()]
            held += [
                {"order_id": order_id, "sku": sku} | msgspec.structs.asdict(line)
                for sku, line in now.items()
                if line != before.get(sku)
            ]
        _level_rows.write(self._connection, changed)
        if let_go:
            self._connection.execute(_let_go, let_go)
        _held_rows.write(self._connection, held)
        self._levels.written()
        self._orders.written()

    # -- within ---------------------------------------------------------------------------------------------------------

    def _end(self, order_id: str, *, shipped: bool) -> tuple[Demand, ...]:
        order = self._order(order_id)
        held = {sku: line for sku, line in sorted(order.items()) if not line.shipped}
        if held:
            self._lock(held)
            self._move({sku: (-line.quantity if shipped else 0, -line.quantity) for sku, line in held.items()})
            rest = {sku: line for sku, line in order.items() if line.shipped}
            gone = {sku: msgspec.structs.replace(line, shipped=True) for sku, line in held.items()} if shipped else {}
            self._orders[order_id] = rest | gone
        return tuple(Demand(sku, line.name, line.quantity) for sku, line in held.items())

    def _order(self, order_id: str) -> Mapping[str, _Held]:
        self._read((order_id,))
        return self._orders[order_id] or {}

    def _read(self, order_ids: Iterable[str]) -> None:
        """Nobody else changes an order: its events all have its key, and a batch has its partitions to itself."""
        self._orders.read(order_ids, self._look_up)

    def _look_up(self, order_ids: list[str]) -> Iterable[tuple[str, Mapping[str, _Held]]]:
        found: defaultdict[str, dict[str, _Held]] = defaultdict(dict)
        for order_id, sku, name, quantity, shipped in _of_orders.rows(self._connection, order_ids):
            found[order_id][sku] = _Held(name, quantity, shipped)
        return found.items()

    def _lock(self, skus: Iterable[str]) -> None:
        self._levels.read(skus, self._look_up_levels)

    def _look_up_levels(self, skus: list[str]) -> Iterator[tuple[str, _Level]]:
        for sku, on_hand, reserved in _lock_levels.rows(self._connection, skus):
            yield sku, _Level(on_hand, reserved)

    def _move(self, changes: Mapping[str, tuple[int, int]]) -> None:
        for sku, (on_hand, reserved) in changes.items():
            level = self._levels[sku] or _Level(0, 0)
            self._levels[sku] = _Level(level.on_hand + on_hand, level.reserved + reserved)


stock: Store[Stock] = Store(
    "stock",
    tables=tables,
    migrations=Path(__file__).parent / "migrations" / "stock",
    repository=Stock,
    concurrent=True,
    volatile=["orders.changed_at"],
    recorded=RecordedShelf,  # type: ignore[arg-type]  # it answers what the handlers ask, not what seeding asks
)
