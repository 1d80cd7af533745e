"""Rows of a table, written many at once.

The one rule: one journey to the database, however many rows there are.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ARRAY, Table, bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection


class Rows:
    """A way to write rows of a table; made once.

    With `replace` a row whose primary key is there already takes its place; else that is an `IntegrityError`.
    """

    def __init__(self, table: Table, *, replace: bool = False) -> None:
        self._names = [column.name for column in table.columns]
        arrays = [bindparam(column.name, type_=ARRAY(column.type)) for column in table.columns]
        source = func.unnest(*arrays).table_valued(*self._names).render_derived()
        many = postgresql.insert(table).from_select(self._names, select(*(source.c[name] for name in self._names)))
        single = sqlite.insert(table)
        if replace:
            keys = [column.name for column in table.primary_key]
            rest = [name for name in self._names if name not in keys]
            many = many.on_conflict_do_update(index_elements=keys, set_={name: many.excluded[name] for name in rest})
            single = single.on_conflict_do_update(index_elements=keys, set_={name: single.excluded[name] for name in rest})
        self._many, self._single = many, single

    def write(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write them; each row has every column of the table."""
        if not rows:
            return
        if connection.dialect.name == "postgresql":
            connection.execute(self._many, {name: [row[name] for row in rows] for name in self._names})
        else:
            connection.execute(self._single, rows)
