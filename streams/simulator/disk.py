"""The database of a simulated run: SQLite in memory, with connections that break where they are told to.

The one rule: the product's own statements run on a real database; what is simulated is only that it goes away.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import StaticPool

from streams import store
from streams.simulator.statements import ShortConnection
from streams.stage import Store

Watch = Callable[[str, "Link"], None]
"""Called before each statement (`statement`), and before (`commit`) and after (`committed`) each commit."""


class LostConnection(sqlite3.OperationalError):
    """What SQLite says when its file cannot be reached; the transaction is gone."""

    sqlite_errorcode = 10  # SQLITE_IOERR


class _Cursor(sqlite3.Cursor):
    def execute(self, sql: str, parameters: Any = ()) -> "_Cursor":
        link: Any = self.connection
        if link.watch is not None:
            link.watch("statement", link)
        super().execute(sql, parameters)
        return self

    def executemany(self, sql: str, parameters: Iterable[Any]) -> "_Cursor":
        link: Any = self.connection
        if link.watch is not None:
            link.watch("statement", link)
        super().executemany(sql, parameters)
        return self


class Link(sqlite3.Connection):
    """The connection that all workers of a run share: only one of them has a transaction at any time."""

    watch: Watch | None = None

    def cursor(self, factory: Any = None) -> Any:  # noqa: ARG002  # ours, whoever asks
        """A cursor that is watched."""
        return super().cursor(_Cursor)

    def commit(self) -> None:
        """End the transaction, watched."""
        if self.watch is not None:
            self.watch("commit", self)
        super().commit()
        if self.watch is not None:
            self.watch("committed", self)

    def lose(self) -> None:
        """Break: the open transaction is undone. Raises `LostConnection`."""
        super().rollback()
        raise LostConnection("disk I/O error")

    def close(self) -> None:
        """Give it back. What was open is undone, as the end of a process undoes it."""
        if self.in_transaction:
            super().rollback()

    def end(self) -> None:
        """Close it for good."""
        super().close()

    def ask(self, sql: str) -> list[Any]:
        """What a statement of the simulator's own finds."""
        return sqlite3.Cursor(self).execute(sql).fetchall()


class _Engine(Engine):
    """An engine whose transactions have one connection, one after the other: to make one takes longer than most of them."""

    _connection_cls = ShortConnection
    _kept: Connection | None = None

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """See `Engine`."""
        kept = self._kept or self.connect()
        self._kept = None  # who begins another meanwhile gets one of its own
        try:
            with kept.begin():
                yield kept
        except BaseException:
            kept.close()
            raise
        if kept.get_execution_options() or kept._has_events:  # they are of one transaction alone
            kept.close()
        else:
            self._kept = kept

    def dispose(self, close: bool = True) -> None:
        """See `Engine`."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None
        super().dispose(close)


class Disk:
    """Databases with the tables of some stores, one after the other: `fresh` makes each. One engine serves them all."""

    def __init__(self, stores: Iterable[Store[Any]]) -> None:
        self._link: Link | None = None
        made = create_engine("sqlite://", creator=self._connect, poolclass=StaticPool)
        self.engine: Final[Engine] = _Engine(made.pool, made.dialect, made.url, hide_parameters=True)
        event.listen(self.engine, "begin", _begin)
        self._image = b""
        self._empty: list[str] = []  # the statements that empty it
        link = self.fresh(None)
        with self.engine.begin() as connection:
            for tables in (store.tables, *(each.tables for each in stores)):
                tables.create_all(connection)
        self._image = link.serialize()
        names = [name for (name,) in link.ask("SELECT name FROM sqlite_master WHERE type = 'table'")]
        self._empty = [f'DELETE FROM "{name}"' for name in names]  # noqa: S608  # our own
        special = link.ask("SELECT name FROM sqlite_master WHERE type = 'trigger' OR sql LIKE 'CREATE VIRTUAL %'")
        if special or any(link.ask(f'SELECT 1 FROM "{name}" LIMIT 1') for name in names):  # noqa: S608  # our own
            self._empty = []  # to delete all rows would leave something else than what its tables were made with
        self._schema = link.ask("PRAGMA schema_version")

    def fresh(self, watch: Watch | None) -> Link:
        """A new database in the place of the last one, with empty tables."""
        if self._link is not None and self._emptied(self._link):
            self._link.watch = watch
            return self._link
        if self._link is not None:
            self.engine.dispose()
            self._link.end()
        self._link = sqlite3.connect(
            ":memory:", isolation_level=None, check_same_thread=False, factory=Link, cached_statements=1024
        )
        if self._image:
            self._link.deserialize(self._image)
        self._link.execute("PRAGMA foreign_keys=ON")
        self._link.watch = watch
        return self._link

    def _emptied(self, link: Link) -> bool:
        """Whether the last one will do: with its rows deleted it is as new, and its statements need not be prepared again."""
        link.watch = None
        link.close()
        if not self._empty or link.ask("PRAGMA schema_version") != self._schema:
            return False
        for statement in ("PRAGMA foreign_keys=OFF", "BEGIN", *self._empty, "COMMIT", "PRAGMA foreign_keys=ON"):
            link.ask(statement)
        return True

    def _connect(self) -> Link:
        assert self._link is not None, "fresh comes first"  # noqa: S101  # for mypy
        return self._link


def _begin(connection: ShortConnection) -> None:
    connection.start("BEGIN IMMEDIATE")
