"""A store to test stores with: counters by name."""

from pathlib import Path

from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select, text, update
from sqlalchemy.engine import Connection

from streams.stage import Store

tables = MetaData()
counters = Table("counters", tables, Column("name", String, primary_key=True), Column("value", Integer, nullable=False))


class Counters:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def value(self, name: str) -> int:
        return self.connection.execute(select(counters.c.value).where(counters.c.name == name)).scalar_one_or_none() or 0

    def add(self, name: str) -> None:
        value = self.value(name)  # read, then write: two processes that do this at once would lose one
        if value:
            self.connection.execute(update(counters).where(counters.c.name == name).values(value=value + 1))
        else:
            self.connection.execute(insert(counters).values(name=name, value=1))

    def run(self, statement: str) -> object:
        result = self.connection.execute(text(statement))
        return result.scalar() if result.returns_rows else None


STORE = Store("counters", tables=tables, migrations=Path(__file__).parent / "migrations", repository=Counters)
