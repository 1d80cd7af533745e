"""Statements that the simulator remembers, beside what SQLAlchemy does with the same ones."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Engine,
    LargeBinary,
    MetaData,
    String,
    Table,
    bindparam,
    create_engine,
    delete,
    event,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError, OperationalError

from streams.simulator.disk import Disk, Link
from streams.simulator.statements import Changed, ShortConnection
from streams.stage import Store
from tests.simulation.till import accounts

tables = MetaData()
things = Table(
    "things",
    tables,
    Column("name", String, primary_key=True),
    Column("what", LargeBinary, nullable=False),
    Column("good", Boolean, nullable=False),
    Column("count", BigInteger),
)
add = insert(things)
find = select(things.c.name, things.c.what, things.c.good, things.c.count).where(
    things.c.name.in_(bindparam("some", expanding=True))
)
some = select(things).where(things.c.good == bindparam("good"), things.c.name != "b").order_by(things.c.name)
sums = select(func.sum(things.c.count), func.count().label("rows"))
more = update(things).where(things.c.name == bindparam("this")).values(count=things.c.count + bindparam("by"))
remove = delete(things).where(things.c.name == bindparam("this"))
ROW = {"what": b"\x00w", "good": True, "count": 2}
STEPS: tuple[tuple[Any, Any], ...] = (
    (add, [{"name": name, **ROW} for name in "abc"]),
    (add, {"name": "d", "what": b"", "good": False, "count": None}),
    (find, {"some": ["a"]}),
    (find, {"some": ["a", "d", "x"]}),
    (find, {"some": []}),
    (some, {"good": True}),
    (sums, None),
    (more, {"this": "a", "by": 3}),
    (more, [{"this": "a", "by": 1}, {"this": "b", "by": 1}]),
    (sums, None),
    (remove, {"this": "a"}),
    (remove, {"this": "b"}),
    (remove, {"this": "c"}),
    (remove, {"this": "d"}),
)


def told(connection: Connection, statement: Any, given: Any) -> Any:
    """What may be asked of its result."""
    result = connection.execute(statement, given)
    if isinstance(statement, type(find)):
        rows = result.all()
        return [(tuple(row), row._asdict(), [type(value) for value in row]) for row in rows]
    key = getattr(result, "inserted_primary_key", None) if statement is add and isinstance(given, dict) else None
    return result.rowcount, key and tuple(key)


@pytest.fixture
def engine() -> Iterator[Engine]:
    """A database with the table, whose connections remember statements."""
    made = create_engine("sqlite://")
    made._connection_cls = ShortConnection
    with made.begin() as connection:
        tables.create_all(connection)
    yield made
    made.dispose()


def test_a_remembered_statement_gives_what_sqlalchemy_gives(engine: Engine) -> None:
    """Twice as told by SQLAlchemy, from the second time on by what is remembered of it."""
    rounds = []
    for cls in (Connection, ShortConnection, ShortConnection, ShortConnection):
        engine._connection_cls = cls
        with engine.begin() as connection:
            rounds.append([told(connection, *step) for step in STEPS])
    assert rounds[1:] == [rounds[0]] * 3
    assert all(ShortConnection._plans[statement] for statement in (add, find, some, sums, more, remove))
    with engine.begin() as connection:
        assert isinstance(connection.execute(remove, {"this": "a"}), Changed)


@pytest.mark.filterwarnings("ignore:Empty parameter sequence")  # from SQLAlchemy 2.1 on
def test_an_empty_list_of_rows_is_none(engine: Engine) -> None:
    with engine.begin() as connection:
        for _ in range(3):
            assert connection.execute(sums, []).all() == [(None, 0)]


@pytest.mark.parametrize("cls", [Connection, ShortConnection])
def test_what_the_database_refuses_is_the_same_error(engine: Engine, cls: type[Connection]) -> None:
    """The transaction goes on after it, as it does with SQLAlchemy."""
    engine._connection_cls = cls
    with engine.begin() as connection:
        for _ in range(3):
            connection.execute(add, {"name": "a", **ROW})
            with pytest.raises(IntegrityError, match=r"UNIQUE constraint failed: things\.name"):
                connection.execute(add, {"name": "a", **ROW})
            connection.execute(remove, {"this": "a"})
        connection.exec_driver_sql("SAVEPOINT event")
        with pytest.raises(OperationalError, match="no such savepoint"):
            connection.exec_driver_sql("RELEASE SAVEPOINT another")


def _a_table_more(link: Link) -> None:
    link.ask("CREATE TABLE more (name TEXT)")


def _left_open(link: Link) -> None:
    link.ask("BEGIN")
    link.ask("INSERT INTO accounts (account, position, balance) VALUES ('bob', 1, 1)")


@pytest.mark.parametrize("leave", [_a_table_more, _left_open])
def test_a_fresh_database_knows_nothing_of_the_last_run(leave: Callable[[Link], None]) -> None:
    """Whatever that has left behind."""
    disk = Disk([accounts])
    schema = "SELECT name, sql FROM sqlite_master ORDER BY name"
    link = disk.fresh(None)
    before = link.ask(schema)
    link.ask("INSERT INTO accounts (account, position, balance) VALUES ('ann', 1, 1)")
    leave(link)
    link = disk.fresh(None)
    assert link.ask(schema) == before
    assert link.ask("SELECT * FROM accounts") == []
    assert link.ask("PRAGMA foreign_keys") == [(1,)]
    with disk.engine.connect() as connection:
        assert connection.execute(select(accounts.tables.tables["accounts"])).all() == []


def test_a_fresh_database_has_no_rows_that_a_trigger_has_written() -> None:
    audited = MetaData()
    Table("trail", audited, Column("name", String))
    Table("watched", audited, Column("name", String))
    trigger = "CREATE TRIGGER gone AFTER DELETE ON watched BEGIN INSERT INTO trail VALUES (old.name); END"
    event.listen(audited, "after_create", lambda _, connection, **__: connection.exec_driver_sql(trigger))
    disk = Disk([Store("audited", tables=audited, migrations=Path(), repository=Connection)])
    disk.fresh(None).ask("INSERT INTO watched VALUES ('a')")
    assert disk.fresh(None).ask("SELECT * FROM trail") == []
