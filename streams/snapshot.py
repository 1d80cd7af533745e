"""A database as it was at one moment: the inbox, and every row of a store.

The one rule: nothing is written and nobody is kept waiting: what is read is one snapshot, however long that takes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, String, Table, create_engine, event, insert, select, text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from streams import database
from streams.errors import SetupError
from streams.record import Output
from streams.rows import Among
from streams.store import of_consumer, tables

_CHUNK: Final = 500
_FETCH: Final = 1000  # rows in memory at once
_inbox = tables.tables["inbox"]
_found = Among(
    _inbox.c.event_id, lambda these: select(_inbox.c.event_id, _inbox.c.outputs, _inbox.c.recorded_at).where(of_consumer, these)
)
_times = select(_inbox.c.event_id, _inbox.c.recorded_at).where(of_consumer)
_decode = msgspec.msgpack.Decoder(tuple[Output, ...]).decode


class Remembered(msgspec.Struct, frozen=True):
    """What the inbox has of an event: its outputs, and when it was handled (milliseconds since the Unix epoch)."""

    outputs: tuple[Output, ...]
    at: int


class Snapshot:
    """One moment of a database, seen by one stage's consumer group."""

    def __init__(self, connection: Connection, consumer: str) -> None:
        self.connection = connection
        self._consumer = consumer

    def look_up(self, event_ids: Sequence[str]) -> dict[str, Remembered]:
        """What is remembered of these events; nothing of those that were not handled, or forgotten since."""
        rows = _found.rows(self.connection, event_ids, consumer=self._consumer)
        return {event_id: Remembered(_decode(bytes(outputs)), at) for event_id, outputs, at in rows}

    def times(self) -> Iterator[tuple[str, int]]:
        """All events that are remembered, and when they were handled (milliseconds since the Unix epoch)."""
        for event_id, at in self.connection.execute(_times, {"consumer": self._consumer}).yield_per(_FETCH):  # noqa: UP028  # typed
            yield event_id, at

    def empty(self, table: Table) -> bool:
        """Whether a table has no row."""
        return self.connection.execute(select(table).limit(1)).first() is None

    def knows(self) -> bool:
        """Whether the stage has handled anything here."""
        return next(self.times(), None) is not None

    def rows(self, table: Table) -> Iterator[tuple[Any, ...]]:
        """A table's rows, ascending by primary key: as Python sorts it, whatever the database's language."""
        order: list[ColumnElement[Any]] = []
        for column in table.primary_key.columns:
            by: ColumnElement[Any] = column
            if self.connection.dialect.name == "postgresql" and isinstance(column.type, String):
                by = column.collate("C")
            order.append(by)
        for row in self.connection.execute(select(table).order_by(*order)).yield_per(_FETCH):
            yield tuple(row)


def copy(url: str, to: str, tables: Sequence[Table]) -> int:
    """Copy these tables' rows from one database into another, where there are none. How many. Raises `SetupError`."""
    engine = database.connect(to)
    try:
        with snapshot(url, "") as source, database.opening(engine) as connection:
            count = 0
            for table in tables:
                names = [column.name for column in table.columns]
                rows = (dict(zip(names, row, strict=True)) for row in source.rows(table))
                while chunk := list(islice(rows, _CHUNK)):
                    connection.execute(insert(table), chunk)
                    count += len(chunk)
            return count
    finally:
        engine.dispose()


@contextmanager
def snapshot(url: str, consumer: str) -> Iterator[Snapshot]:
    """A database as it is now, for as long as this is open. Raises `SetupError` for one that cannot be read."""
    engine = _reading(url)
    try:
        with engine.connect() as connection, connection.begin():
            connection.execute(text("SELECT 1 FROM inbox LIMIT 1"))  # SQLite's snapshot is as of the first look
            yield Snapshot(connection, consumer)
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip()
        raise SetupError(
            f"cannot read the database {database.address(url).render_as_string()}: {reason}",
            where="TOWPATH_STORE",
            fix="name the database that the stages work with",
        ) from error
    finally:
        engine.dispose()


def _reading(url: str) -> Engine:
    parsed = database.address(url)
    if parsed.get_backend_name() == "sqlite":
        path = Path(str(parsed.database)).absolute()
        engine = create_engine(f"sqlite:///file:{path}?mode=ro&uri=true")

        @event.listens_for(engine, "connect")
        def _(connection: Any, _: Any) -> None:
            connection.isolation_level = None  # else the driver begins no transaction for a look, and each sees another moment

        @event.listens_for(engine, "begin")
        def _(connection: Connection) -> None:
            connection.exec_driver_sql("BEGIN")

        return engine
    return create_engine(parsed, isolation_level="REPEATABLE READ", execution_options={"postgresql_readonly": True})
