"""Rows that are written and looked up many at once come back as they were, in both databases, whatever is in them."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Enum,
    Float,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    delete,
    select,
)
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.types import TypeEngine

from streams import database
from streams.rows import Among, Rows

tables = MetaData()
things = Table(
    "things",
    tables,
    Column("name", String, primary_key=True),
    Column("number", BigInteger),
    Column("data", LargeBinary),
    Column("flag", Boolean),
    Column("share", Float),
    Column("price", Numeric(20, 4)),
    Column("day", Date),
    Column("at", DateTime(timezone=True)),
    Column("note", String),
)
names = Among(things.c.name, lambda these: select(things).where(these).order_by(things.c.name))
gone = Among(things.c.name, lambda these: delete(things).where(these))

TEXTS = (
    "",
    " ",
    "NULL",
    "null",
    "{}",
    "{a,b}",
    "a,b",
    '"',
    '""',
    "\\",
    '\\"',
    "\\\\x",
    "\\x6162",
    "a\nb\tc",
    "'; DROP TABLE things; --",
    "%s %(name)s",
    "ä€😀\u202e",
    "$1",
)


def row(name: str, **values: Any) -> dict[str, Any]:
    return {column.name: None for column in things.columns} | {"name": name} | values


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    engine = database.connect(url)
    with database.opening(engine) as connection:
        tables.create_all(connection)
        yield connection
    engine.dispose()


def test_values_come_back_as_they_were(connection: Connection) -> None:
    rows = [row(text, note=text) for text in TEXTS]
    rows.append(
        row(
            "all",
            number=-(2**63),
            data=bytes(range(256)),
            flag=True,
            share=0.1,
            price=Decimal("-1234.5600"),
            day=date(2016, 2, 29),
            at=datetime(2017, 1, 31, 23, 59, 59, 999999, UTC),
        )
    )
    rows.append(row("least", number=2**63 - 1, data=b"", flag=False, share=-1e300))
    Rows(things).write(connection, rows)
    found = {each.name: dict(each._mapping) for each in names.rows(connection, [each["name"] for each in rows])}
    for each in found.values():
        if connection.dialect.name == "sqlite" and each["at"] is not None:
            each["at"] = each["at"].replace(tzinfo=UTC)  # it keeps no zone
    assert found == {each["name"]: each for each in rows}


@pytest.mark.parametrize("count", [0, 1, 500, 501, 2500])
def test_however_many_there_are_each_is_found_once(connection: Connection, count: int) -> None:
    known = [f"{number:05}" for number in range(count)]
    Rows(things).write(connection, [row(name, number=int(name)) for name in known])
    assert [each.number for each in names.rows(connection, [*known, "another"])] == list(range(count))
    gone.run(connection, known[1:])
    assert [each.name for each in names.rows(connection, known)] == known[:1]


def test_a_row_takes_anothers_place_only_where_that_is_wanted(connection: Connection) -> None:
    Rows(things).write(connection, [row("a", number=1), row("b", number=2)])
    Rows(things, replace=True).write(connection, [row("b", number=3), row("c", number=4)])
    assert [each.number for each in names.rows(connection, ["a", "b", "c"])] == [1, 3, 4]
    with pytest.raises(IntegrityError):
        Rows(things).write(connection, [row("c", number=5)])


def test_what_no_text_can_hold_is_refused(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":  # SQLite's texts hold it
        with pytest.raises(DataError, match="NUL"):
            Rows(things).write(connection, [row("a", note="b\0c")])


@pytest.mark.parametrize("kind", [JSON(), Enum("a", "b"), Interval()])
def test_a_column_of_a_type_that_cannot_be_given_is_told_at_once(kind: TypeEngine[Any]) -> None:
    table = Table("others", MetaData(), Column("one", kind, primary_key=True))
    with pytest.raises(TypeError, match=r"others\.one: many values of .* cannot be given at once, only those of Decimal, bool"):
        Rows(table)
    with pytest.raises(TypeError, match=r"others\.one"):
        Among(table.c.one, select(table).where)
