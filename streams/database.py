"""A database: SQLite in a file, or PostgreSQL by URL. What differs between the two is said here.

The one rule: an error says which of three it is: the database is away, it undid the transaction for another's sake, or it was
told something wrong.
"""

import fcntl
import zlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final
from weakref import WeakSet

from psycopg.pq import TransactionStatus
from sqlalchemy import URL, create_engine, event, make_url, text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError, PendingRollbackError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from streams.errors import Conflict, SetupError, Unavailable

_BUSY: Final = 30.0  # seconds to wait for another process's transaction
_MARGIN: Final = 15.0  # seconds that a session may be silent beyond the time a handler may take: then its process is frozen
# SQLite's own codes for "not now": BUSY, LOCKED, READONLY, IOERR, FULL, CANTOPEN. Its plain ERROR (1) is a wrong statement.
_AWAY: Final = frozenset({5, 6, 8, 10, 13, 14})
_CONFLICTS: Final = frozenset({"40001", "40P01"})  # serialization failure, deadlock
# Connection lost, out of resources, ended by an operator or the system; a lock or a statement that took too long; a session
# that was idle in its transaction; a primary that has become a standby. https://www.postgresql.org/docs/current/errcodes-appendix.html
_CLASSES: Final = frozenset({"08", "53", "57", "58"})
_CODES: Final = frozenset({"55P03", "25P03", "25006"})
_TCP: Final = {"connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
_TURN: Final = text("SELECT pg_advisory_xact_lock(:space, number) FROM unnest(CAST(:numbers AS int[])) AS number")
_AGAIN: Final = (("RELEASE SAVEPOINT event", "SAVEPOINT event"), ("RELEASE SAVEPOINT event; SAVEPOINT event",))
_WHERE: Final = "TOWPATH_STORE"


def connect(url: str, *, time_limit: float = 60.0) -> Engine:
    """A pool of one connection: one thread works with it, and its transactions are one after the other.

    Where a connection in a transaction is silent for longer than `time_limit` (seconds; how long a handler may take) and a
    margin, PostgreSQL ends the session: a frozen process must not lock its successor out. Raises `SetupError`.
    """
    parsed = address(url)
    sqlite = parsed.get_backend_name() == "sqlite"
    if sqlite:
        arguments: dict[str, Any] = {"timeout": _BUSY, "check_same_thread": False}
    else:
        arguments = {name: value for name, value in _TCP.items() if name not in parsed.query}
    try:
        engine = create_engine(
            parsed,
            poolclass=QueuePool,
            pool_size=1,
            max_overflow=0,
            pool_pre_ping=not sqlite,
            connect_args=arguments,
            hide_parameters=True,  # an error's text is logged and kept with its case: what customers say is not for there
        )
    except ImportError as error:
        raise SetupError(f"no driver for this database: {error}", where=_WHERE, fix="install it") from None
    if sqlite:
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "begin", _begin)
    else:
        silence = int((time_limit + _MARGIN) * 1000)

        @event.listens_for(engine, "connect")
        def _(connection: Any, _: Any) -> None:
            connection.execute(f"SET lock_timeout = {int(_BUSY * 1000)}")
            connection.execute(f"SET idle_in_transaction_session_timeout = {silence}")
            connection.commit()

        event.listen(engine, "handle_error", _discreet)
    return engine


def _discreet(context: Any) -> None:
    """PostgreSQL's DETAIL quotes the row that it refuses: neither a log nor a case is the place for that."""
    error = context.sqlalchemy_exception
    if error is not None and error.args:
        error.args = (str(error.args[0]).partition("\nDETAIL:")[0], *error.args[1:])


def address(url: str) -> URL:
    """The URL as SQLAlchemy takes it, with psycopg as PostgreSQL's driver. Raises `SetupError`."""
    fix = "write sqlite:///.towpath/store.db or postgresql://user:password@host/database"
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise SetupError("this is no database URL", where=_WHERE, fix=fix) from None  # it may hold a password
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
        raise SetupError(f"{parsed.drivername!r} is no database that Towpath works with", where=_WHERE, fix=fix)
    return parsed


def take_turn(connection: Connection, space: str, numbers: Sequence[int] = (0,)) -> None:
    """Wait until no other transaction has any of these numbers in this space, and have them until this one ends.

    SQLite's transactions take turns anyhow.
    """
    if connection.dialect.name == "postgresql" and numbers:
        signed = zlib.crc32(space.encode()) - 2**31
        connection.execute(_TURN, {"space": signed, "numbers": sorted(numbers)})  # in order, so that two never wait in a circle


class Savepoint:
    """What is undone alone, again and again in one transaction; a context manager.

    It is made when the first statement of each event is about to run, so that an event without one costs nothing.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._driver: Any = connection.connection.dbapi_connection
        self._postgresql = connection.dialect.name == "postgresql"
        self._waiting = False
        self._made = False
        self._ever = False
        connection.info[_SAVEPOINT] = self
        if connection.engine not in _heard:  # once: to listen takes longer than to look who is meant
            _heard.add(connection.engine)
            event.listen(connection.engine, "before_cursor_execute", _before)

    def __enter__(self) -> None:
        self._waiting, self._made = True, False

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._waiting = False
        if not self._made:
            return
        if error is not None and (away(error) or conflict(error)):  # the transaction is gone, and its savepoint with it
            return
        if self._gone():
            raise Unavailable("database") from error
        failed = self._postgresql and self._driver.info.transaction_status == TransactionStatus.INERROR
        if error is not None or failed:
            self._run("ROLLBACK TO SAVEPOINT event")
        if error is None and failed:
            raise RuntimeError("a statement failed, and the handler went on as if it had not")

    def make(self) -> None:
        """Make it, if the statement that is about to run is the first of its event."""
        if self._waiting:
            self._waiting, self._made = False, True
            if self._gone():  # SQLite would begin a transaction with the savepoint, and commit it with its release
                raise Unavailable("database")
            # In one go: each statement is a journey to the server. The last one of a transaction ends with it.
            for statement in _AGAIN[self._postgresql] if self._ever else ("SAVEPOINT event",):
                self._run(statement)
            self._ever = True

    def _run(self, statement: str) -> None:
        self._connection.exec_driver_sql(statement, execution_options={"no_parameters": True})

    def _gone(self) -> bool:
        """Whether the transaction has ended behind our back: some failures make SQLite do so."""
        return not self._postgresql and not self._driver.in_transaction


_SAVEPOINT: Final = "towpath.savepoint"  # of the transaction at work, or the last one
_heard: Final[WeakSet[Engine]] = WeakSet()


def _before(connection: Connection, *_: object) -> None:
    savepoint: Savepoint | None = connection.info.get(_SAVEPOINT)
    if savepoint is not None:
        savepoint.make()


@contextmanager
def opening(engine: Engine) -> Iterator[Connection]:
    """A transaction that nobody else's start disturbs. A database that cannot be opened is a `SetupError`."""
    try:
        with _alone(engine.url), engine.begin() as connection:
            yield connection
    except (OSError, SQLAlchemyError) as error:
        reason = str(getattr(error, "orig", None) or error).strip()
        raise SetupError(
            f"cannot use the database {engine.url.render_as_string()}: {reason}",
            where=_WHERE,
            fix="name a database that this process may reach and write to",
        ) from error


class _Available:
    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is None:
            return
        if conflict(error):
            raise Conflict("database") from error
        # Pending: the connection was lost before, and somebody has hidden it.
        if isinstance(error, PendingRollbackError) or away(error):
            raise Unavailable("database") from error


def available() -> AbstractContextManager[None]:
    """Tell a database that is away, or undid the transaction, from a statement that is wrong."""
    return _AVAILABLE


_AVAILABLE: Final = _Available()  # around every event: a generator would cost more than most of them


def conflict(error: BaseException) -> bool:
    """Whether the database undid the transaction because of another one: run again, it may well succeed."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in _CONFLICTS


def away(error: BaseException) -> bool:
    """Whether an error means that the database cannot be used now, rather than that a statement is wrong."""
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    if (state := getattr(error.orig, "sqlstate", None)) is not None:  # PostgreSQL's
        return state in _CODES or state[:2] in _CLASSES
    code = getattr(error.orig, "sqlite_errorcode", None)  # none: psycopg has lost its connection, or never had one
    return isinstance(error, OperationalError | InterfaceError) and (code is None or code & 0xFF in _AWAY)


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
