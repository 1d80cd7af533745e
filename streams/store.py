"""The inbox: a stage's database effects, once.

The one rule: what an event did to the database and the outputs it had are written in one transaction, so that an event
that comes again gives back its recorded outputs and does nothing.

The database commits first, Kafka second. A crash between the two changes nothing: the batch is read again and found here.
A zombie and its successor take turns: whoever comes second finds what the first has recorded.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final, Protocol, runtime_checkable

import msgspec
from sqlalchemy import BigInteger, Column, Integer, LargeBinary, MetaData, String, Table, bindparam, delete, select
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import IntegrityError

from streams import database, migrate
from streams.database import available
from streams.errors import Conflict, SetupError, Unavailable
from streams.record import Output, Record
from streams.rows import Among, Rows
from streams.session import Place
from streams.stage import Store
from streams.tally import PROCESS, Spread

_CHUNK: Final = 500  # rows that are forgotten in one transaction

log = logging.getLogger("towpath.store")

tables = MetaData()
_inbox = Table(
    "inbox",
    tables,
    Column("consumer", String, primary_key=True),  # the stage's consumer group
    Column("event_id", String, primary_key=True),
    Column("topic", String, nullable=False),  # where the event was read
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("outputs", LargeBinary, nullable=False),  # msgpack of a list of `Output`
    Column("recorded_at", BigInteger, nullable=False),  # milliseconds since the Unix epoch
)
of_consumer = _inbox.c.consumer == bindparam("consumer")
"""Whether a row of the inbox is the `consumer`'s."""
_found = Among(_inbox.c.event_id, lambda these: select(_inbox.c.event_id, _inbox.c.outputs).where(of_consumer, these))
_old = (
    select(_inbox.c.event_id, _inbox.c.topic, _inbox.c.partition, _inbox.c.offset)
    .where(of_consumer, _inbox.c.recorded_at < bindparam("before"))
    .where(_inbox.c.event_id > bindparam("after"))
    .order_by(_inbox.c.event_id)
    .limit(bindparam("count"))
)
_remove = Among(_inbox.c.event_id, lambda these: delete(_inbox).where(of_consumer, these))
_rows = Rows(_inbox)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[Output, ...]).decode


@runtime_checkable
class Bulk(Protocol):
    """What a repository may offer in order to read and write a whole batch at once, instead of one event at a time."""

    def expect(self, events: Sequence[Any]) -> None:
        """These events will come, in this order; others may come as well. The place to read, and lock, what they need."""
        ...

    def event(self) -> AbstractContextManager[None]:
        """Around each event: an exception undoes in memory what the event did there."""
        ...

    def flush(self) -> None:
        """Write what is still in memory: the batch is about to be committed."""
        ...


@runtime_checkable
class Forgetful(Protocol):
    """What a repository may offer that remembers events itself, beside the inbox."""

    def forget(self, before: float) -> int:
        """Remove what was remembered before a time (seconds since the Unix epoch). How many rows."""
        ...


class Journal:
    """One batch inside its database transaction: what has been recorded, and what is to be."""

    def __init__(self, connection: Connection, consumer: str, repository: Any, *, one_by_one: bool = False) -> None:
        self.repository = repository
        self.refused = False  # what was to be read or written at once could not be: next time one by one
        self._bulk = repository if isinstance(repository, Bulk) else None
        self._one_by_one = one_by_one
        self._connection = connection
        self._consumer = consumer
        self._asked: set[str] = set()
        self._known: dict[str, tuple[Output, ...]] = {}
        self._new: dict[str, Record] = {}
        self._lost: Unavailable | None = None
        self._savepoint = database.Savepoint(connection)

    def recorded(self, event_id: str) -> tuple[Output, ...] | None:
        """The outputs that this event had, in an earlier batch or earlier in this one; None if it is new."""
        if event_id not in self._asked:
            self.look_up([event_id])
        return self._known.get(event_id)

    @property
    def hits(self) -> int:
        """How many of the batch's events had been handled in an earlier one."""
        return len(self._known) - len(self._new)

    def record(self, event_id: str, outputs: Sequence[Output], record: Record) -> None:
        """Write down what an event's outputs are, together with its effects, and the record that brought it."""
        self._asked.add(event_id)
        self._known[event_id] = tuple(outputs)
        self._new[event_id] = record

    def expect(self, events: Callable[[], Sequence[Any]]) -> None:
        """Tell a repository that works in bulk what will come; of any other, `events` is not called."""
        if self._bulk is not None and not self._one_by_one:
            with self._at_once():
                self._bulk.expect(events())

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """One event's effects: an exception in here undoes them and no other's, and goes on to the caller.

        Raises `Unavailable` when the database itself has failed, `Conflict` when it undid the transaction; then the batch is
        lost and says so again at its end.
        """
        if self._lost:
            raise self._lost
        recorded = len(self._new)
        try:
            with available(), self._savepoint, self._bulk.event() if self._bulk else nullcontext():
                yield
                if self._bulk is not None and self._one_by_one:
                    self._bulk.flush()
        except BaseException as error:
            if isinstance(error, Unavailable) and error.dependency == "database":
                self._lost = error
            for event_id in list(self._new)[recorded:]:
                del self._known[event_id], self._new[event_id]
            raise

    def look_up(self, event_ids: Sequence[str]) -> None:
        """Ask the database for many events at once."""
        self._asked.update(event_ids)
        try:
            with available():
                found = _found.rows(self._connection, event_ids, consumer=self._consumer)
        except Unavailable as error:  # SQLite may have undone the transaction, and would take what follows one by one
            self._lost = error
            raise
        self._known.update((event_id, _decode(outputs)) for event_id, outputs in found)

    def save(self, now: float) -> None:
        """Write what the repository holds back, and the inbox rows. `now` is in seconds since the Unix epoch."""
        if self._lost:
            raise self._lost
        if self._bulk is not None:
            with self._at_once():
                self._bulk.flush()
        if not self._new:
            return
        at = int(now * 1000)
        rows = [
            {
                "consumer": self._consumer,
                "event_id": event_id,
                "topic": record.topic,
                "partition": record.partition,
                "offset": record.offset,
                "outputs": _encode(self._known[event_id]),
                "recorded_at": at,
            }
            for event_id, record in sorted(self._new.items())  # all write in one order: nobody waits in a circle
        ]
        try:
            _rows.write(self._connection, rows)
        except IntegrityError as error:  # the same event has come by another partition, and its batch was faster
            raise Conflict("database") from error

    @contextmanager
    def _at_once(self) -> Iterator[None]:
        """Many events together: one that the database refuses must not take the others with it."""
        try:
            with available():
                yield
        except Unavailable:
            raise
        except Exception as error:
            log.warning("%s: a batch is refused and is run again, each event by itself: %s", self._consumer, error)
            self.refused = True
            raise Conflict("database") from error


class Inbox:
    """A stage's database: the inbox beside the stage's own tables. One thread at a time may use it.

    `consumer` is the stage's consumer group: it names whose events these are. `time_limit`: see `Stage`. An engine in the
    place of the URL stays its owner's.
    """

    def __init__(self, url: str | Engine, consumer: str, store: Store[Any], *, time_limit: float = 60.0) -> None:
        self._owned = isinstance(url, str)
        self._engine = database.connect(url, time_limit=time_limit) if isinstance(url, str) else url
        self._consumer = consumer
        self._store = store
        self._one_by_one = False
        self.took = Spread(PROCESS)  # seconds of each batch that was committed
        self.hits = 0  # events that came again, and were answered from here

    def open(self) -> None:
        """Connect. Raises `SetupError` when the database cannot be used, or is behind: then `towpath db upgrade` is due."""
        try:
            with database.opening(self._engine) as connection:
                migrate.check(connection, [self._store])
        except SetupError:
            self.close()
            raise

    @contextmanager
    def batch(self, event_ids: Sequence[str], now: float, partitions: Sequence[int] = ()) -> Iterator[Journal]:
        """One database transaction for a batch: committed at the end, or rolled back whole by an exception.

        `event_ids` are looked up at once; `now` (seconds since the Unix epoch) dates the rows; `partitions` are those of the
        batch's records: nobody else works on them meanwhile. Raises `Unavailable("database")` when the database is locked
        for longer than 30 s or lost, and `Conflict` when it undid the transaction: nothing has happened then.
        """
        began = time.monotonic()
        with available(), self._engine.begin() as connection:
            if self._store.concurrent:
                database.take_turn(connection, f"group {self._consumer}", partitions)
            else:
                database.take_turn(connection, f"store {self._store.name}")
            repository = self._store.repository(connection)
            journal = Journal(connection, self._consumer, repository, one_by_one=self._one_by_one)
            try:
                journal.look_up(event_ids)
                yield journal
                journal.save(now)
            finally:
                self._one_by_one = journal.refused
        self.took.add(time.monotonic() - began)
        self.hits += journal.hits

    def prune(self, before: float, done: Callable[[Place, int], bool], *, dry_run: bool = False) -> Mapping[str, int]:
        """Forget events recorded before a time (seconds since the Unix epoch) that `done` says cannot come again.

        `done` is asked with the place and offset of the record that brought an event. In steps of 500 rows, each a
        transaction of its own. Returns the counts `old` (recorded before that time) and `pruned`. A repository that is
        `Forgetful` forgets as well.
        """
        counts = {"old": 0, "pruned": 0}
        asked = {"consumer": self._consumer, "before": int(before * 1000), "after": "", "count": _CHUNK}
        while True:
            with available(), self._engine.begin() as connection:
                rows = connection.execute(_old, asked).all()
                ids = [event_id for event_id, topic, partition, offset in rows if done((topic, partition), offset)]
                if ids and not dry_run:
                    _remove.run(connection, ids, consumer=self._consumer)
            counts["old"] += len(rows)
            counts["pruned"] += len(ids)
            if len(rows) < _CHUNK:
                break
            asked["after"] = rows[-1].event_id
        if not dry_run:
            with available(), self._engine.begin() as connection:
                repository = self._store.repository(connection)
                if isinstance(repository, Forgetful):
                    repository.forget(before)
        return counts

    def close(self) -> None:
        """Let go of the connection."""
        if self._owned:
            self._engine.dispose()
