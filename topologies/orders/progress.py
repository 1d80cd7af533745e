"""How far an order has come, as inventory knows it: its states, and which moves there are between them.

The one rule: `MOVES` is all of it, whatever comes in which order; what is not there cannot be, and is a case for people.

Cancellations, payments and deadlines race: they come by different topics. Each finds the order in one of these states and moves
it to the next, so that every order ends in one of `LAST`, with its stock and its money in the same hands whoever was first.
docs/order-states.md has the table.
"""

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Final

import msgspec
from sqlalchemy import BigInteger, Column, MetaData, String, Table, select
from sqlalchemy.engine import Connection

from streams.errors import Reject
from streams.rows import Among, Changes, Rows, Undo


class State(StrEnum):
    """Where an order is."""

    NEW = "new"  # nothing is known of it
    WITHDRAWN = "withdrawn"  # cancelled before it was accepted, if it ever is
    RESERVED = "reserved"  # its stock is set aside, its payment is awaited
    SHORT = "short"  # there was too little in stock
    SHIPPED = "shipped"  # paid for, and off the shelf
    DECLINED = "declined"  # the payment failed, its stock is for sale again
    EXPIRED = "expired"  # not paid in time, its stock is for sale again
    CANCELLED = "cancelled"  # nobody wants it any more, its stock is for sale again
    REFUNDED = "refunded"  # as one of the three before, and the money that came all the same goes back


class What(StrEnum):
    """What can befall an order."""

    ACCEPTED = "accepted"
    CAPTURED = "captured"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DUE = "due"  # the time to pay is over


MOVES: Final[Mapping[State, Mapping[What, tuple[State, ...]]]] = {
    State.NEW: {What.ACCEPTED: (State.RESERVED, State.SHORT), What.CANCELLED: (State.WITHDRAWN,)},
    State.WITHDRAWN: {What.ACCEPTED: (State.CANCELLED,), What.CANCELLED: (State.WITHDRAWN,)},
    State.RESERVED: {
        What.ACCEPTED: (State.RESERVED,),
        What.CAPTURED: (State.SHIPPED,),
        What.FAILED: (State.DECLINED,),
        What.CANCELLED: (State.CANCELLED,),
        What.DUE: (State.EXPIRED,),
    },
    State.SHORT: {What.ACCEPTED: (State.SHORT,), What.CANCELLED: (State.SHORT,)},
    State.SHIPPED: {
        What.ACCEPTED: (State.SHIPPED,),
        What.CAPTURED: (State.SHIPPED,),
        What.CANCELLED: (State.REFUNDED,),
        What.DUE: (State.SHIPPED,),
    },
    **{
        ended: {
            What.ACCEPTED: (ended,),
            What.CAPTURED: (State.REFUNDED,),
            What.FAILED: (ended,),
            What.CANCELLED: (ended,),
            What.DUE: (ended,),
        }
        for ended in (State.DECLINED, State.EXPIRED, State.CANCELLED)
    },
    State.REFUNDED: {
        What.ACCEPTED: (State.REFUNDED,),
        What.CAPTURED: (State.REFUNDED,),
        What.CANCELLED: (State.REFUNDED,),
        What.DUE: (State.REFUNDED,),
    },
}
"""What befalls an order in a state, and the states that it may come to. A move to where it is does nothing."""

LAST: Final = frozenset({State.SHORT, State.SHIPPED, State.DECLINED, State.EXPIRED, State.CANCELLED, State.REFUNDED})
"""The states in which an order that was accepted may end."""


class Order(msgspec.Struct, frozen=True):
    """What inventory knows of an order. `note` is why it was cancelled before it came.

    `changed_at` is when it last moved, in milliseconds since the Unix epoch; `Stock.set_order` sees to it.
    """

    state: State = State.NEW
    customer_id: str = ""
    currency: str = ""
    total_minor: int = 0
    payment_id: str | None = None
    note: str = ""
    changed_at: int | None = None


def moves(order_id: str, order: Order, what: What) -> tuple[State, ...]:
    """Where it may come to. Raises `Reject` for what cannot befall an order in its state."""
    found = MOVES[order.state].get(what)
    if found is None:
        raise Reject(f"order {order_id} is {order.state.value}: that it is {what.value} now cannot be")
    return found


tables = MetaData()
orders = Table(
    "orders",
    tables,
    Column("order_id", String, primary_key=True),
    Column("state", String, nullable=False),
    Column("customer_id", String, nullable=False),
    Column("currency", String, nullable=False),
    Column("total_minor", BigInteger, nullable=False),
    Column("payment_id", String),
    Column("note", String, nullable=False),
    Column("changed_at", BigInteger),  # milliseconds since the Unix epoch; none of what an older version wrote
)
_read = Among(orders.c.order_id, select(orders).where)
_rows = Rows(orders, replace=True)


class Progress:
    """The orders of a batch: read at once, changed in memory, written at once. `undo` takes what undoes a change in memory."""

    def __init__(self, connection: Connection, undo: Undo) -> None:
        self._connection = connection
        self._orders: Changes[Order] = Changes(undo)

    def read(self, order_ids: Iterable[str]) -> None:
        """Nobody else changes an order: its events all have its key, and a batch has its partitions to itself."""
        self._orders.read(order_ids, self._look_up)

    def of(self, order_id: str) -> Order | None:
        """What is known of an order."""
        self.read((order_id,))
        return self._orders[order_id]

    def set(self, order_id: str, order: Order) -> None:
        """It has come so far."""
        self.read((order_id,))
        self._orders[order_id] = order

    def flush(self) -> None:
        """Write what has changed since it was read."""
        changed = [
            {"order_id": order_id} | msgspec.structs.asdict(order) | {"state": order.state.value}
            for order_id, _, order in self._orders.changed()
        ]
        _rows.write(self._connection, changed)
        self._orders.written()

    def _look_up(self, order_ids: list[str]) -> Iterator[tuple[str, Order]]:
        for order_id, state, *rest in _read.rows(self._connection, order_ids):
            yield order_id, Order(State(state), *rest)
