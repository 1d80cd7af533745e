"""The orders that intake has seen: by number, what was in them, and how often each came again.

The one rule: a number stands for one content for as long as it is remembered.

`towpath db prune` forgets here by age alone, unlike in the inbox, where position decides: the record that brought an order
first is known by its row there, for as long as it can come again. What is remembered here is for other records of the order.
"""

import logging
from collections.abc import Iterable, Sequence
from enum import Enum, auto
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Column, LargeBinary, MetaData, String, Table, bindparam, delete, select, update
from sqlalchemy.engine import Connection

from streams.rows import Among, Rows, Undo
from streams.stage import Past, Store
from topologies.orders.events import OrderSubmitted, readable

log = logging.getLogger("towpath.intake")

tables = MetaData()
_seen = Table(
    "submissions",
    tables,
    Column("order_id", String, primary_key=True),
    Column("content", LargeBinary, nullable=False),  # BLAKE2b, 16 bytes
    Column("first_at", BigInteger, nullable=False),  # milliseconds since the Unix epoch
    Column("repeats", BigInteger, nullable=False),
)
_find = Among(_seen.c.order_id, select(_seen.c.order_id, _seen.c.content).where)
_rows = Rows(_seen)
_again = update(_seen).where(_seen.c.order_id == bindparam("this")).values(repeats=_seen.c.repeats + bindparam("times"))
_forget = delete(_seen).where(_seen.c.first_at < bindparam("before"))
_encode = msgspec.msgpack.Encoder().encode


class Seen(Enum):
    """Whether an order comes for the first time, again as it was, or with other content."""

    FIRST = auto()
    AGAIN = auto()
    OTHERWISE = auto()


def content(order: OrderSubmitted) -> bytes:
    """What is in an order, in 16 bytes."""
    return blake2b(_encode(order), digest_size=16).digest()


class Submissions:
    """The orders seen, within one database transaction; see `streams.store.Bulk`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._contents: dict[str, bytes | None] = {}
        self._new: dict[str, int] = {}
        self._repeats: dict[str, int] = {}
        self._undo = Undo()

    def take(self, order: OrderSubmitted, now: float) -> Seen:
        """Remember an order, or say that it was here before. `now` is in seconds since the Unix epoch."""
        order_id, this = order.order_id, content(order)
        if order_id not in self._contents:
            self._read([order_id])
        known = self._contents[order_id]
        if known is None:
            self._contents[order_id], self._new[order_id] = this, int(now * 1000)
            self._undo.append(lambda: (self._contents.update({order_id: None}), self._new.pop(order_id)))
            return Seen.FIRST
        if known != this:
            return Seen.OTHERWISE
        self._repeats[order_id] = before = self._repeats.get(order_id, 0) + 1
        self._undo.append(lambda: self._repeats.update({order_id: before - 1}))
        return Seen.AGAIN

    def expect(self, events: Sequence[Any]) -> None:
        """Look up all these orders at once."""
        self._read([event.order_id for event in events if readable(event.order_id)])

    def event(self) -> Undo:
        """Undo in memory what an event that fails did."""
        return self._undo

    def flush(self) -> None:
        """Write what has changed since it was read."""
        new = [
            {"order_id": order_id, "content": self._contents[order_id], "first_at": at, "repeats": 0}
            for order_id, at in sorted(self._new.items())  # all write in one order: nobody waits in a circle
        ]
        again = [{"this": order_id, "times": times} for order_id, times in sorted(self._repeats.items()) if times]
        _rows.write(self._connection, new)
        if again:
            self._connection.execute(_again, again)
            log.info("orders that came again as they were: %d, first %s", len(again), again[0]["this"])
        self._new.clear()
        self._repeats.clear()

    def forget(self, before: float) -> int:
        """Forget orders first seen before a time (seconds since the Unix epoch). How many."""
        return self._connection.execute(_forget, {"before": int(before * 1000)}).rowcount

    def _read(self, order_ids: Iterable[str]) -> None:
        missing = sorted(set(order_ids) - self._contents.keys())
        self._contents.update(dict.fromkeys(missing))
        self._contents.update((order_id, known) for order_id, known in _find.rows(self._connection, missing))


class RecordedSubmissions:
    """Whether an order was new when it came, told by what came of it. Remembers nothing."""

    def __init__(self, past: Past) -> None:
        self._new = bool(past.outputs)

    def take(self, order: OrderSubmitted, now: float) -> Seen:  # noqa: ARG002  # as `Submissions`
        """See `Submissions`: one that came with other content was never handled to its end."""
        return Seen.FIRST if self._new else Seen.AGAIN


submissions: Store[Submissions] = Store(
    "submissions",
    tables=tables,
    migrations=Path(__file__).parent / "migrations" / "submissions",
    repository=Submissions,
    concurrent=True,  # two records of one order that come by two partitions meet at the primary key: see `streams.store`
    recorded=RecordedSubmissions,  # type: ignore[arg-type]  # it answers what the handler asks
    volatile=["submissions.first_at"],
)
