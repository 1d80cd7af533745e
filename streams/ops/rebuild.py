"""A stage's database made once more from its topics, and compared with the live one, row by row.

The one rule: the live database is only looked at, at one moment; what is made goes into an empty one.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from streams import migrate, snapshot
from streams.errors import SetupError
from streams.ops.replay.judge import Trial
from streams.ops.replay.rerun import Rerun, Timeline
from streams.process import Verdict
from streams.snapshot import Snapshot
from streams.stage import Store

_EXAMPLES = 20


class RowDifference(msgspec.Struct, frozen=True):
    """A row that is not the same: `changed`, `missing` (only in the live database) or `extra` (only in the rebuilt one).

    `columns` has what differs: the live value, then the rebuilt one.
    """

    kind: str
    table: str
    key: tuple[Any, ...]
    columns: dict[str, tuple[Any, Any]] = {}


class Rebuilt(msgspec.Struct):
    """What has been done: events handled once more, and those that came to another end than then (the first of them)."""

    events: int = 0
    failed: int = 0
    failures: list[str] = []

    def take(self, trial: Trial) -> None:
        """Count one event. All of them were handled to their end when they were live."""
        self.events += 1
        if trial.outcome.verdict is not Verdict.DONE:
            self.failed += 1
            if len(self.failures) < _EXAMPLES:
                why = trial.outcome.failure.message if trial.outcome.failure else ""
                self.failures.append(f"{trial.record.place}: {trial.undecided or why or trial.outcome.verdict.value}")


def prepare(url: str, store: Store[Any], consumer: str, base: str = "") -> int:
    """Make the tables in an empty database and, if there is a `base`, copy its rows: the store before the first event.

    Raises `SetupError` for a database that holds anything of this store or stage. How many rows were copied.
    """
    migrate.upgrade(url, [store])
    with snapshot.snapshot(url, consumer) as target:
        full = [table.name for table in store.tables.sorted_tables if not target.empty(table)]
        if target.knows():
            full.append("inbox")
    if full:
        raise SetupError(
            f"the database is not empty: there are rows in {', '.join(full)}", where="--store", fix="name a new one"
        )
    return snapshot.copy(base, url, store.tables.sorted_tables) if base else 0


def rebuild(rerun: Rerun, line: Timeline, live: Snapshot | None, end: int) -> Iterator[Rebuilt]:
    """Run all that is on the timeline; says how far it is after each event, always in the same object."""
    done = Rebuilt()
    yield done
    with closing(line):
        for trial in rerun.run(line, live, end):
            done.take(trial)
            yield done


def compare(live: Snapshot, made: Snapshot, store: Store[Any]) -> Iterator[RowDifference]:
    """Every row of the store's tables that differs, table by table; volatile columns may."""
    for table in store.tables.sorted_tables:
        names = [column.name for column in table.columns]
        keys = [names.index(column.name) for column in table.primary_key.columns]
        told = [n for n, name in enumerate(names) if f"{table.name}.{name}" not in store.volatile]
        for kind, key, was, now in _merged(live.rows(table), made.rows(table), keys):
            if kind != "both":
                yield RowDifference(kind, table.name, key)
            elif columns := {names[n]: (_shown(was[n]), _shown(now[n])) for n in told if was[n] != now[n]}:
                yield RowDifference("changed", table.name, key, columns)


def _merged(
    live: Iterator[tuple[Any, ...]], made: Iterator[tuple[Any, ...]], keys: Sequence[int]
) -> Iterator[tuple[str, tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]]:
    """Both sides, ascending by key, as one: neither is ever in memory."""
    one, other = next(live, None), next(made, None)
    while one is not None or other is not None:
        left = tuple(one[n] for n in keys) if one is not None else None
        right = tuple(other[n] for n in keys) if other is not None else None
        if one is not None and other is not None and left == right and left is not None:
            yield "both", left, one, other
            one, other = next(live, None), next(made, None)
        elif one is not None and left is not None and (right is None or left < right):
            yield "missing", left, one, ()
            one = next(live, None)
        elif other is not None and right is not None:
            yield "extra", right, (), other
            other = next(made, None)


def _shown(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value


def scratch(folder: Path) -> str:
    """The URL of a throw-away database in a folder."""
    return f"sqlite:///{folder / 'sandbox.db'}"
