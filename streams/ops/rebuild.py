"""A stage's database made once more from its topics, and compared with the live one, row by row.

The one rule: the live database is only looked at, at one moment; what is made goes into an empty one.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from streams import migrate, names, snapshot
from streams.codec import Codec
from streams.errors import SetupError
from streams.ops.replay.evidence import Evidence
from streams.ops.replay.judge import Trial
from streams.ops.replay.rerun import Rerun, Timeline
from streams.ops.replay.window import Inputs, Waits
from streams.process import Verdict
from streams.registry import FolderRegistry
from streams.snapshot import Snapshot
from streams.stage import Store

_EXAMPLES = 20
_ALWAYS = 2**62


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
        columns = [str(column.name) for column in table.columns]  # a str of SQLAlchemy's own is no JSON
        keys = [columns.index(column.name) for column in table.primary_key.columns]
        told = [n for n, name in enumerate(columns) if f"{table.name}.{name}" not in store.volatile]
        for kind, key, was, now in _merged(live.rows(table), made.rows(table), keys):
            if kind != "both":
                yield RowDifference(kind, str(table.name), key)
            elif differs := {columns[n]: (_shown(was[n]), _shown(now[n])) for n in told if was[n] != now[n]}:
                yield RowDifference("changed", str(table.name), key, differs)


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


class Rebuild:
    """One stage's database, from its topics into the empty one at `url`; `folder` is for temporary files.

    `live` is the URL of the live database; without one (it is lost) events go by their own times, up to what the stage has
    committed to Kafka, and nothing is compared.
    """

    def __init__(self, inputs: Inputs, url: str, folder: Path, *, live: str = "", base: str = "") -> None:
        """Makes the tables, and copies the base. Raises `SetupError`."""
        stage = inputs.stage
        if stage.store is None:
            raise SetupError(f"stage {stage.name!r} has no database", fix="name a stage with a store")
        self._inputs = inputs
        self._store = stage.store
        self._url = url
        self._folder = folder
        self._live = live
        self._consumer = names.group(inputs.topology.name, stage.name)
        self.copied = prepare(url, stage.store, self._consumer, base)
        self.done = Rebuilt()

    def run(self) -> Iterator[RowDifference]:
        """Make it, then compare: says of each row that differs. `done` tells meanwhile how far it is."""
        with ExitStack() as stack:
            live = stack.enter_context(snapshot.snapshot(self._live, self._consumer)) if self._live else None
            evidence = stack.enter_context(Evidence(self._folder))
            self._make(evidence, live)
            if live is not None:
                made = stack.enter_context(snapshot.snapshot(self._url, self._consumer))
                yield from compare(live, made, self._store)

    def _make(self, evidence: Evidence, live: Snapshot | None) -> None:
        inputs = self._inputs
        waits = Waits(inputs.waiting())
        whole = inputs.everything()
        evidence.add(inputs.outputs(whole))
        line = Timeline(self._folder, live, lambda record: "ahead" if inputs.ahead(record) else waits(record))
        line.add(inputs.read(whole))
        codec = Codec(inputs.stage.events, FolderRegistry(inputs.topology.schemas))
        rerun = Rerun(inputs.topology, inputs.stage, codec, inputs.settings, self._url, evidence=evidence)
        end = _ALWAYS if live is not None else int(datetime.now(UTC).timestamp() * 1000)
        for done in rebuild(rerun, line, live, end):
            self.done = done
