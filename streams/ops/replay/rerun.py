"""A stage's whole past on a database of its own: its inputs in the order in which they were handled, effects included.

The one rule: only what the stage has handled to its end is run, at the time at which it was; ports answer from the record.

The order is that of the live inbox, whose rows say when each event was handled, to the batch. What the inbox has forgotten,
and everything if there is none, goes by the records' own times: there two partitions may be a little out of step.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from streams import names
from streams.codec import Codec
from streams.config import Settings
from streams.errors import Conflict
from streams.ops.replay.evidence import Evidence
from streams.ops.replay.judge import Trial
from streams.ops.replay.sandbox import Sandbox, own, then
from streams.parked import timer_of
from streams.process import Outcome, Verdict
from streams.record import Record, event_info
from streams.snapshot import Snapshot
from streams.stage import Stage
from streams.store import Inbox
from streams.topology import Topology
from streams.travel import event_id

_CHUNK: Final = 500
_CHANCES: Final = 5  # runs of one batch that the database may undo
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode
_TABLES: Final = (
    "CREATE TABLE handled (id TEXT PRIMARY KEY, at INTEGER) WITHOUT ROWID",
    "CREATE TABLE line (at INTEGER, stamp INTEGER, topic TEXT, partition INTEGER, offset INTEGER, record BLOB, done INTEGER,"
    " UNIQUE (topic, partition, offset))",
    "CREATE INDEX by_time ON line (done, at, stamp, partition, topic, offset)",
)


class Timeline:
    """What is to be run, by the time at which it was handled; in a temporary file.

    `inbox` is the live database, if there is one. `waits` says of a record where it waits, if it was not handled to its end.
    """

    def __init__(self, folder: Path, inbox: Snapshot | None, waits: Callable[[Record], str] = lambda _: "") -> None:
        self._database = sqlite3.connect(folder / "timeline.db", isolation_level=None)
        for statement in ("PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF", *_TABLES):
            self._database.execute(statement)
        self._waits = waits
        self._floor: int | None = None
        if inbox is not None:
            self._database.execute("BEGIN")
            self._database.executemany("INSERT INTO handled VALUES (?, ?)", inbox.times())
            self._database.execute("COMMIT")
            (self._floor,) = self._database.execute("SELECT min(at) FROM handled").fetchone()

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def add(self, records: Iterable[Record]) -> None:
        """Put records in their places; what was not handled to its end has none."""
        self._database.execute("BEGIN")
        self._database.executemany("INSERT OR IGNORE INTO line VALUES (?, ?, ?, ?, ?, ?, 0)", self._lines(records))
        self._database.execute("COMMIT")

    def add_timer(self, record: Record, due: float, end: int) -> None:
        """What the stage has sent itself for later, due at a time (seconds); not if that is past `end` (ms) or did not come."""
        at = self._at(event_id(record), int(due * 1000))
        if at is not None and at <= end:
            line = (at, at, record.topic, record.partition, record.offset, _encode(record))
            self._database.execute("INSERT OR IGNORE INTO line VALUES (?, ?, ?, ?, ?, ?, 0)", line)

    def take(self, count: int) -> list[tuple[int, Record]]:
        """The next records, each with the time (ms) at which it was handled; none is given twice."""
        rows = self._database.execute(
            "SELECT rowid, at, record FROM line WHERE done = 0 ORDER BY at, stamp, partition, topic, offset LIMIT ?", (count,)
        ).fetchall()
        self._database.executemany("UPDATE line SET done = 1 WHERE rowid = ?", [(row[0],) for row in rows])
        return [(at, _decode(record)) for _, at, record in rows]

    @property
    def size(self) -> int:
        """How many records have been put in."""
        return int(self._database.execute("SELECT count(*) FROM line").fetchone()[0])

    def _lines(self, records: Iterable[Record]) -> Iterator[tuple[Any, ...]]:
        for record in records:
            at = self._at(event_id(record), None if self._waits(record) else record.timestamp)
            if at is not None:
                yield at, record.timestamp, record.topic, record.partition, record.offset, _encode(record)

    def _at(self, known: str, otherwise: int | None) -> int | None:
        row = self._database.execute("SELECT at FROM handled WHERE id = ?", (known,)).fetchone()
        if row is not None:
            return int(row[0])
        if otherwise is None or self._floor is None:
            return otherwise
        return otherwise if otherwise < self._floor else None  # else the inbox would know it


class Rerun:
    """One stage on the database at `url`, which has the tables of its store and nothing in its inbox."""

    def __init__(
        self, topology: Topology, stage: Stage, codec: Codec, settings: Settings, url: str, *, evidence: Evidence
    ) -> None:
        assert stage.store is not None, "a stage without a store has no database"  # noqa: S101  # for mypy; the verb has looked
        self._stage = stage
        self._joint = frozenset(event_info(cls).topic for cls in topology.joint)
        self._sandbox = Sandbox(stage, codec, settings, real_store=True)
        self._inbox = Inbox(url, names.group(topology.name, stage.name), stage.store, time_limit=stage.time_limit)
        self._evidence = evidence

    def run(self, line: Timeline, live: Snapshot | None, end: int) -> Iterator[Trial]:
        """Everything on the timeline, effects included; what comes for later up to `end` (ms since the Unix epoch) too."""
        self._inbox.open()
        try:
            with asyncio.Runner() as runner:
                runner.run(self._sandbox.__aenter__())
                try:
                    while chunk := line.take(_CHUNK):
                        trials = runner.run(self._chunk(chunk, live))
                        for (at, record), trial in zip(chunk, trials, strict=True):
                            self._later(line, record, trial.outcome, at, end)
                        yield from trials
                finally:
                    runner.run(self._sandbox.__aexit__())
        finally:
            self._inbox.close()

    async def _chunk(self, chunk: Sequence[tuple[int, Record]], live: Snapshot | None) -> list[Trial]:
        ids = [event_id(record) for _, record in chunk]
        emitted = self._evidence.of(ids)
        known = live.look_up(ids) if live is not None else {}
        then_: list[Trial] = []
        for (_, record), cause in zip(chunk, ids, strict=True):
            found = own(cause, self._stage, emitted.get(cause, ()), known.get(cause), self._joint)
            then_.append(Trial(cause, record, _NOTHING, found, known.get(cause)))
        chances = _CHANCES
        while True:
            try:
                return await self._batch(chunk, ids, then_)
            except Conflict:  # also: what was written at once is refused, and is to be written one by one
                chances -= 1
                if not chances:
                    raise

    async def _batch(self, chunk: Sequence[tuple[int, Record]], ids: Sequence[str], trials: Sequence[Trial]) -> list[Trial]:
        processor, sandbox = self._sandbox.processor, self._sandbox
        partitions = sorted({record.partition for _, record in chunk})
        done = []
        with self._inbox.batch(ids, chunk[-1][0] / 1000, partitions) as journal:
            processor.use(journal)
            try:
                journal.expect(lambda: processor.events((record, cause) for (_, record), cause in zip(chunk, ids, strict=True)))
                records = processor.read([record for _, record in chunk])
                for (at, _), ready, trial in zip(chunk, records, trials, strict=True):
                    past = then(trial.found, trial.remembered, handled=True)
                    outcome = sandbox.start(ready, past, (at + 0.5) / 1000)
                    if not isinstance(outcome, Outcome):
                        outcome = await outcome
                    done.append(msgspec.structs.replace(trial, outcome=outcome, undecided=sandbox.undecided(outcome)))
            finally:
                processor.use(None)
        return done

    def _later(self, line: Timeline, record: Record, outcome: Outcome, at: int, end: int) -> None:
        for output in outcome.outputs:
            if output.topic in self._sandbox.processor.timers:
                timer, due = timer_of(output, record.partition, at / 1000)
                line.add_timer(timer, due, end)


_NOTHING: Final = Outcome(Verdict.DONE)
"""Takes the place of what comes of a record until it has been run."""
