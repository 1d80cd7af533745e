"""The inbox: a stage's database effects, once.

The one rule: what an event did to the database and the outputs it had are written in one transaction, so that an event
that comes again gives back its recorded outputs and does nothing.

The database commits first, Kafka second. A crash between the two changes nothing: the batch is read again and found here.
"""

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    LargeBinary,
    MetaData,
    String,
    Table,
    bindparam,
    create_engine,
    event,
    insert,
    make_url,
    select,
)
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from streams.errors import SetupError, Unavailable
from streams.record import Output
from streams.stage import Store

_BUSY: Final = 30.0  # seconds to wait for another process's transaction
_CHUNK: Final = 500  # ids in one look-up; SQLite before 3.32 takes at most 999 variables
# SQLite's own codes for "not now": BUSY, LOCKED, READONLY, IOERR, FULL, CANTOPEN. Its plain ERROR (1) is a wrong statement.
_AWAY: Final = frozenset({5, 6, 8, 10, 13, 14})

_tables = MetaData()
_inbox = Table(
    "inbox",
    _tables,
    Column("stage", String, primary_key=True),
    Column("event_id", String, primary_key=True),
    Column("outputs", LargeBinary, nullable=False),  # msgpack of a list of `Output`
    Column("recorded_at", BigInteger, nullable=False),  # milliseconds since the Unix epoch
)
_found = select(_inbox.c.event_id, _inbox.c.outputs).where(
    _inbox.c.stage == bindparam("stage"), _inbox.c.event_id.in_(bindparam("ids", expanding=True))
)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[Output, ...]).decode


class Journal:
    """One batch inside its database transaction: what has been recorded, and what is to be."""

    def __init__(self, connection: Connection, stage: str, repository: Any) -> None:
        self.repository = repository
        self._connection = connection
        self._stage = stage
        self._asked: set[str] = set()
        self._known: dict[str, tuple[Output, ...]] = {}
        self._new: list[str] = []
        self._lost: Unavailable | None = None

    def recorded(self, event_id: str) -> tuple[Output, ...] | None:
        """The outputs that this event had, in an earlier batch or earlier in this one; None if it is new."""
        if event_id not in self._asked:
            self.look_up([event_id])
        return self._known.get(event_id)

    def record(self, event_id: str, outputs: Sequence[Output]) -> None:
        """Write down what an event's outputs are, together with its effects."""
        self._asked.add(event_id)
        self._known[event_id] = tuple(outputs)
        self._new.append(event_id)

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """One event's effects: an exception in here undoes them and no other's, and goes on to the caller.

        Raises `Unavailable` when the database itself has failed; then the batch is lost and says so again at its end.
        """
        if self._lost:  # SQLite may have ended the transaction: a savepoint of now would be one of its own, and commit
            raise self._lost
        recorded = len(self._new)
        run = self._connection.exec_driver_sql  # a fifth of what `begin_nested` costs
        try:
            with _available():
                run("SAVEPOINT event")
                try:
                    yield
                except BaseException as error:
                    if _away(error):  # the transaction is gone, and its savepoints with it
                        raise
                    run("ROLLBACK TO SAVEPOINT event")
                    run("RELEASE SAVEPOINT event")
                    for event_id in self._new[recorded:]:
                        del self._known[event_id]
                    del self._new[recorded:]
                    raise
                run("RELEASE SAVEPOINT event")
        except Unavailable as error:
            if error.dependency == "database":
                self._lost = error
            raise

    def look_up(self, event_ids: Sequence[str]) -> None:
        """Ask the database for many events at once."""
        self._asked.update(event_ids)
        for start in range(0, len(event_ids), _CHUNK):
            asked = {"stage": self._stage, "ids": event_ids[start : start + _CHUNK]}
            with _available():
                found = self._connection.execute(_found, asked).all()
            self._known.update((event_id, _decode(outputs)) for event_id, outputs in found)

    def save(self, now: float) -> None:
        """Write the inbox rows of the batch. `now` is in seconds since the Unix epoch."""
        if self._lost:
            raise self._lost
        if self._new:
            at = int(now * 1000)
            rows = [
                {"stage": self._stage, "event_id": event_id, "outputs": _encode(self._known[event_id]), "recorded_at": at}
                for event_id in self._new
            ]
            self._connection.execute(insert(_inbox), rows)


class Inbox:
    """A stage's database: the inbox beside the stage's own tables. One thread at a time may use it."""

    def __init__(self, url: str, stage: str, store: Store[Any]) -> None:
        self._engine = _engine(url)
        self._stage = stage
        self._store = store

    def open(self) -> None:
        """Connect and create the tables that are missing. Raises `SetupError` when the database cannot be opened."""
        try:
            with _alone(self._engine.url), self._engine.begin() as connection:
                _tables.create_all(connection)
                self._store.tables.create_all(connection)
        except (OSError, SQLAlchemyError) as error:
            raise SetupError(
                f"cannot open the database {self._engine.url.render_as_string()}: {getattr(error, 'orig', None) or error}",
                where="TOWPATH_STORE",
                fix="name a database that this process may write to",
            ) from error

    @contextmanager
    def batch(self, event_ids: Sequence[str], now: float) -> Iterator[Journal]:
        """One database transaction for a batch: committed at the end, or rolled back whole by an exception.

        `event_ids` are looked up at once; `now` (seconds since the Unix epoch) dates the rows. Raises
        `Unavailable("database")` when the database is locked for longer than 30 s or lost: nothing has happened then.
        """
        with _available(), self._engine.begin() as connection:
            journal = Journal(connection, self._stage, self._store.repository(connection))
            journal.look_up(event_ids)
            yield journal
            journal.save(now)

    def close(self) -> None:
        """Let go of the connection."""
        self._engine.dispose()


def _engine(url: str) -> Engine:
    """An engine with one connection, whose transactions take the write lock at their start."""
    fix = "write it as SQLAlchemy does, e.g. sqlite:///.towpath/store.db"
    try:
        parsed = make_url(url)
        sqlite = parsed.get_backend_name() == "sqlite"
        arguments = {"timeout": _BUSY, "check_same_thread": False} if sqlite else {}
        engine = create_engine(parsed, poolclass=QueuePool, pool_size=1, max_overflow=0, connect_args=arguments)
    except ArgumentError:
        raise SetupError("this is no database URL", where="TOWPATH_STORE", fix=fix) from None  # it may hold a password
    except ImportError as error:
        raise SetupError(f"no driver for this database: {error}", where="TOWPATH_STORE", fix="install it") from None
    if sqlite:
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # else the driver begins transactions by itself, and too late
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    # The write lock at once: a reader that becomes a writer later can deadlock with another that does the same.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def _alone(url: URL) -> Iterator[None]:
    """Keep other processes of this machine from opening the same file: the switch to WAL fails where two meet."""
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        yield
        return
    path = Path(str(url.database))
    path.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{path}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _available() -> Iterator[None]:
    """Tell a database that is away from a statement that is wrong."""
    try:
        yield
    except DBAPIError as error:
        if _away(error):
            raise Unavailable("database") from error
        raise


def _away(error: BaseException) -> bool:
    """Whether an error means that the database cannot be used now, rather than that a statement is wrong."""
    if not isinstance(error, DBAPIError):
        return False
    code = getattr(error.orig, "sqlite_errorcode", None)
    return error.connection_invalidated or (isinstance(error, OperationalError) and (code is None or code & 0xFF in _AWAY))
