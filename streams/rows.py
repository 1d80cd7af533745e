"""Rows of a table, looked up and written many at once, and their changes in memory between the two.

The one rule: on PostgreSQL one journey to the database, however many rows there are, and one value for each column.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import (
    BindParameter,
    Column,
    ColumnElement,
    Enum,
    Executable,
    String,
    Table,
    TypeDecorator,
    bindparam,
    func,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, CursorResult
from sqlalchemy.types import UserDefinedType

V = TypeVar("V")

_CHUNK: Final = 500  # values in one statement; SQLite before 3.32 takes at most 999 variables
_VALUES: Final = "among"  # the name of the values: none that a statement is likely to have
_POSTGRESQL: Final[Any] = postgresql.dialect()  # type: ignore[no-untyped-call]


class Among:
    """A statement on rows whose `column` has one of many values; made once. `make` is given that as a condition."""

    def __init__(self, column: Column[Any], make: Callable[[ColumnElement[bool]], Executable]) -> None:
        self._write = _writer(column)
        # Not `= ANY`: a plan that was made for a small table would go through all values for each of its rows.
        self._any = make(column.in_(select(func.unnest(_given(column, _VALUES)))))
        self._in = make(column.in_(bindparam(_VALUES, expanding=True)))

    def run(self, connection: Connection, values: Sequence[Any], **others: Any) -> list[CursorResult[Any]]:
        """What came of each statement that it took; `others` are the statement's other values."""
        if connection.dialect.name == "postgresql":
            return [connection.execute(self._any, {_VALUES: self._write(values), **others})] if values else []
        parts = [values[start : start + _CHUNK] for start in range(0, len(values), _CHUNK)]
        return [connection.execute(self._in, {_VALUES: part, **others}) for part in parts]

    def rows(self, connection: Connection, values: Sequence[Any], **others: Any) -> list[Any]:
        """Those that it finds. In the statement's order where the values are in theirs, or there are few."""
        return [row for result in self.run(connection, values, **others) for row in result]


class Rows:
    """A way to write rows of a table; made once.

    With `replace` a row whose primary key is there already takes its place; else that is an `IntegrityError`.
    Raises `TypeError` for a column of a type that it cannot write.
    """

    def __init__(self, table: Table, *, replace: bool = False) -> None:
        names = [column.name for column in table.columns]
        self._writers = {column.name: _writer(column) for column in table.columns}
        source = func.unnest(*[_given(column, column.name) for column in table.columns]).table_valued(*names).render_derived()
        many = postgresql.insert(table).from_select(names, select(*(source.c[name] for name in names)))
        single = sqlite.insert(table)
        if replace:
            keys = [column.name for column in table.primary_key]
            rest = [name for name in names if name not in keys]
            many = many.on_conflict_do_update(index_elements=keys, set_={name: many.excluded[name] for name in rest})
            single = single.on_conflict_do_update(index_elements=keys, set_={name: single.excluded[name] for name in rest})
        self._many, self._single = many, single

    def write(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write them; each row has every column of the table."""
        if not rows:
            return
        if connection.dialect.name == "postgresql":
            columns = {name: write([row[name] for row in rows]) for name, write in self._writers.items()}
            connection.execute(self._many, columns)
        else:
            connection.execute(self._single, rows)


class Undo(list[Callable[[], object]]):
    """What undoes in memory what one event did, first to last; around each event, where an exception does it.

    For a repository's `event` (see `streams.store.Bulk`).
    """

    def __enter__(self) -> None:
        self.clear()

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None:
            for step in reversed(self):
                step()


class Changes(Generic[V]):
    """Values by key as one transaction has them: as they were read, and what becomes of them; `undo` takes changes back."""

    def __init__(self, undo: Undo) -> None:
        self._undo = undo
        self._now: dict[str, V | None] = {}
        self._before: dict[str, V | None] = {}  # of those that changed: what the table says

    def read(self, keys: Iterable[str], look_up: Callable[[list[str]], Iterable[tuple[str, V]]]) -> None:
        """Look up those of these that were not read yet, in ascending order. Of a key that is not found the value is None."""
        missing = sorted({key for key in keys if key not in self._now})
        if missing:
            found = dict(look_up(missing))
            self._now.update([(key, found.get(key)) for key in missing])

    def __getitem__(self, key: str) -> V | None:
        return self._now[key]

    def __setitem__(self, key: str, value: V) -> None:
        before = self._now[key]
        self._before.setdefault(key, before)
        self._undo.append(lambda: self._now.update({key: before}))
        self._now[key] = value

    def changed(self) -> list[tuple[str, V | None, V]]:
        """Key, value in the table and value of now, where the two differ, in the order in which they changed."""
        each = ((key, before, self._now[key]) for key, before in self._before.items())
        return [(key, before, now) for key, before, now in each if now is not None and now != before]

    def written(self) -> None:
        """The table says now what these do."""
        self._before.clear()


class _Array(UserDefinedType[str]):
    """Values as PostgreSQL's text of an array. The cast says what it is, so that it is read once, not for every row."""

    cache_ok = True
    render_bind_cast = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: Any) -> str:
        """What is written in a cast."""
        return self.name


def _given(column: Column[Any], name: str) -> BindParameter[str]:
    """Many values of a column."""
    plain = String() if column.type.python_type is str else column.type  # in a cast a type has no collation
    return bindparam(name, type_=_Array(f"{plain.compile(_POSTGRESQL)}[]"))


def _writer(column: Column[Any]) -> Callable[[Iterable[Any]], str]:
    """How values of a column become the text of an array.

    psycopg makes it value by value, in Python, with a look at each value's type: a third of a stage's time.
    Source: PostgreSQL's manual, 8.15.6, Array Input and Output Syntax.
    """
    kind = _WRITERS.get(column.type.python_type)
    if kind is None or isinstance(column.type, _SPECIAL):
        known = ", ".join(sorted(each.__name__ for each in _WRITERS))
        raise TypeError(f"{column}: many values of {column.type!r} cannot be given at once, only those of {known}")
    return lambda values: f"{{{','.join([_NULL if value is None else kind(value) for value in values])}}}"


def _quoted(value: object) -> str:
    text = str(value)
    if "\\" in text or '"' in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


_NULL: Final = "NULL"
_SPECIAL: Final = (TypeDecorator, Enum)  # what the database sees of a value is not the value
_WRITERS: Final[Mapping[type, Callable[[Any], str]]] = {
    str: _quoted,
    bytes: lambda value: f'"\\\\x{value.hex()}"',
    int: str,
    bool: str,
    float: repr,
    Decimal: str,
    date: _quoted,
    datetime: _quoted,
}
