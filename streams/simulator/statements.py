"""Statements on a run's database, without what SQLAlchemy does anew for each: in memory that is most of their time.

The one rule: the driver is given the statement and the values that SQLAlchemy would give it, and what comes back is the same.

A statement that is run for the first time goes SQLAlchemy's way, and so does each that is put together anew every time, or has
something of its own (RETURNING, defaults in Python, an empty IN). Of any other it is kept what SQLAlchemy has made of it: the
text, the order of its values, and what has to be done with a value on its way to the driver and back. Of SQLAlchemy's events
there is `before_cursor_execute`, without its context.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, ClassVar, Final
from weakref import WeakKeyDictionary

import msgspec
from sqlalchemy.engine import Connection, IteratorResult, Row
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.sql import Delete, Executable, Insert, Select, Update

_Shape = tuple[Any, ...]
_Convert = Callable[[Any], Any] | None
_NOTHING: Final = SimpleResultMetaData([])
_POINTS: Final = ("SAVEPOINT ", "RELEASE ", "ROLLBACK TO ")


class Changed(IteratorResult[Any]):
    """What comes of a statement that gives no rows: how many it changed, and the primary key of the one that it added."""

    def __init__(self, rowcount: int, key: tuple[Any, ...] | None = None) -> None:
        super().__init__(_NOTHING, iter(()))
        self.rowcount = rowcount
        self.inserted_primary_key = key


class Found(IteratorResult[Any]):
    """The rows that a statement gives. Who just goes through them is spared what SQLAlchemy prepares for a result's filters."""

    def __init__(self, names: SimpleResultMetaData, make: Callable[[Any], Any], rows: Iterable[Any]) -> None:
        super().__init__(names, iter(rows))
        self._names = names
        self._make = make

    def __iter__(self) -> Iterator[Any]:
        """See `Result`."""
        if self._unique_filter_state is None and self._metadata is self._names:
            return map(self._make, self._fetchiter_impl())
        return super().__iter__()


class _Value(msgspec.Struct, frozen=True):
    """One value of a statement, or many in a row: the name by which it is given, and what it becomes for the driver."""

    name: str
    many: bool
    convert: _Convert


class _Plan(msgspec.Struct, frozen=True):
    """A statement as the driver takes it.

    `fixed` are values that are a part of it; `result` and `back` are for its rows: their names, and what becomes of values;
    `make` makes a row. `key` are the values that are the primary key of the row that it adds. `take` takes the values as they
    are given, where nothing else has to be done with them.
    """

    text: str
    values: tuple[_Value, ...]
    fixed: Mapping[str, Any]
    take: Callable[[Mapping[str, Any]], Any] | None
    result: SimpleResultMetaData | None = None
    make: Callable[[Any], Any] = tuple
    back: tuple[tuple[int, Callable[[Any], Any]], ...] = ()
    key: tuple[str, ...] = ()

    def bind(self, given: Mapping[str, Any]) -> Any:
        """The driver's values. Raises `KeyError` for one that is missing."""
        if self.take is not None:
            return self.take(given)
        found: list[Any] = []
        for each in self.values:
            name, convert = each.name, each.convert
            value = given[name] if name in given else self.fixed[name]
            if each.many:
                found += value if convert is None else map(convert, value)
            else:
                found.append(value if convert is None else convert(value))
        return found

    def rows(self, raw: list[Any]) -> list[Any]:
        """Rows as they are to be read."""
        if not self.back:
            return raw
        found = []
        for row in raw:
            values = list(row)
            for index, convert in self.back:
                values[index] = convert(values[index])
            found.append(tuple(values))
        return found


class ShortConnection(Connection):
    """A connection that remembers its statements, from one transaction to the next."""

    _plans: ClassVar[WeakKeyDictionary[Executable, dict[_Shape, _Plan | None]]] = WeakKeyDictionary()

    def execute(self, statement: Any, parameters: Any = None, *, execution_options: Any = None) -> Any:
        """See `Connection`."""
        shape = None if execution_options or not self._is_plain() else _shape(parameters)
        if shape is None:
            return super().execute(statement, parameters, execution_options=execution_options)
        shapes = self._plans.get(statement)
        if shapes is None:
            self._plans[statement] = {}  # the second time it is worth a look
            return super().execute(statement, parameters)
        if shape not in shapes:
            shapes[shape] = _plan(self, statement, parameters)
        plan = shapes[shape]
        if plan is None:
            return super().execute(statement, parameters)
        if type(parameters) is list:
            return Changed(self._run(plan.text, [plan.bind(row) for row in parameters], many=True).rowcount)
        cursor = self._run(plan.text, plan.bind(parameters or {}))
        if plan.result is None:
            return Changed(cursor.rowcount, tuple([parameters[name] for name in plan.key]) if plan.key else None)
        return Found(plan.result, plan.make, plan.rows(cursor.fetchall()))

    def exec_driver_sql(self, statement: str, parameters: Any = None, execution_options: Any = None) -> Any:
        """See `Connection`."""
        if parameters is None and statement.startswith(_POINTS) and self._is_plain():
            self._run(statement)
            return Changed(-1)
        return super().exec_driver_sql(statement, parameters, execution_options)

    def start(self, statement: str) -> None:
        """Run the statement that begins a transaction."""
        self._run(statement)

    def _is_plain(self) -> bool:
        """Whether there is an open transaction, and nothing else that SQLAlchemy would have to think of."""
        if not self.in_transaction() or self.invalidated or self.get_nested_transaction() is not None:
            return False
        return not self.get_execution_options()

    def _run(self, statement: str, values: Sequence[Any] = (), *, many: bool = False) -> Any:
        driver: Any = self.connection.dbapi_connection
        cursor = driver.cursor()
        for listener in self.dispatch.before_cursor_execute:
            listener(self, cursor, statement, values, None, many)
        try:
            if many:
                cursor.executemany(statement, values)
            else:
                cursor.execute(statement, values)
        except BaseException as error:
            if isinstance(error, Exception) and not isinstance(error, sqlite3.Error):
                raise  # a value that the driver does not take: no error of the database
            self._handle_dbapi_exception(error, statement, None, cursor, None)
        return cursor


def _shape(parameters: Any) -> _Shape | None:
    """On what a plan depends: the names of the values, and how many there are in each list. `None`: it is worth no plan."""
    if type(parameters) is list:
        if not parameters:
            return None
        names = tuple(parameters[0])
        return ("many", *names) if all(tuple(row) == names for row in parameters) else None
    if not parameters:
        return ()
    if type(parameters) is not dict:
        return None
    found: list[Any] = []
    for name, value in parameters.items():
        found.append(name)
        if isinstance(value, list | tuple):
            if not value:
                return None
            found.append(len(value))
    return tuple(found)


def _plan(connection: Connection, statement: Executable, parameters: Any) -> _Plan | None:
    """What SQLAlchemy makes of it; `None` for one that is to go its way."""
    if not isinstance(statement, Select | Insert | Update | Delete):
        return None
    many = type(parameters) is list
    given: Mapping[str, Any] = parameters[0] if many else parameters or {}
    compiled: Any = statement.compile(dialect=connection.dialect, column_keys=sorted(given), for_executemany=many)
    if _is_special(compiled):
        return None
    plan = _bound(compiled, given)
    if isinstance(statement, Select):
        columns = compiled._result_columns
        convert = [each.type.dialect_impl(connection.dialect).result_processor(connection.dialect, None) for each in columns]
        back = tuple((index, each) for index, each in enumerate(convert) if each is not None)
        result = SimpleResultMetaData([each.keyname for each in columns])
        make = partial(Row, result, None, result._key_to_index)
        return msgspec.structs.replace(plan, result=result, make=make, back=back)
    if isinstance(statement, Insert) and not many:
        key = tuple(column.key for column in statement.table.primary_key)
        return msgspec.structs.replace(plan, key=key) if key and given.keys() >= set(key) else None
    return plan


def _is_special(compiled: Any) -> bool:
    """Whether there is something in it that has to be thought of each time."""
    if compiled.literal_execute_params or any(bound.callable or bound.type._is_tuple_type for bound in compiled.bind_names):
        return True
    if any(bound.key != name for bound, name in compiled.bind_names.items()):
        return True
    return not isinstance(compiled.statement, Select) and _has_more(compiled)


def _has_more(compiled: Any) -> bool:
    """Whether a statement that changes rows gives some back, or needs values from elsewhere."""
    prefetch = () if compiled.isdelete else (*compiled.insert_prefetch, *compiled.update_prefetch)
    return bool(compiled.effective_returning or prefetch)


def _bound(compiled: Any, given: Mapping[str, Any]) -> _Plan:
    state = compiled.construct_expanded_state(given, escape_names=False)
    origin: dict[str, tuple[str, int | None]] = {name: (name, None) for name in state.parameters}
    for name, names in state.parameter_expansion.items():
        origin |= {each: (name, index) for index, each in enumerate(names)}
    values = []
    for name in state.positiontup or ():
        source, index = origin[name]
        if not index:  # of many values the first stands for all: they follow upon it
            values.append(_Value(source, index is not None, state.processors.get(name)))
    plain = len(values) > 1 and all(each.name in given and not each.many and each.convert is None for each in values)
    take: Any = itemgetter(*(each.name for each in values)) if plain else None
    return _Plan(state.statement, tuple(values), compiled.construct_params({}, _check=False), take)
