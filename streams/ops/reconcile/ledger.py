"""What was collected of a flow, on disk: events, receipts, what is parked and what is dead.

The one rule: memory does not grow with the flow. Rows go to SQLite in batches, and are sorted there.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from streams import names
from streams.books import Fact, Value
from streams.codec import Codec
from streams.dead import CASE, Case, original, unbury
from streams.errors import DecodeError
from streams.parked import parse
from streams.receipts import Receipt
from streams.record import CAUSE, Record, event_info
from streams.registry import FolderRegistry
from streams.session import Place
from streams.topology import Topology
from streams.travel import event_id, output_id

FOREIGN: Final = -1
"""The `stage` of an event that no stage of the topology can have made; that of a source's event is null."""
_MOST: Final = 1024  # outputs of one event that are looked for
_BATCH: Final = 5000
_SCHEMA: Final = """
PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA locking_mode=EXCLUSIVE; PRAGMA cache_size=-98304;
CREATE TABLE event (id BLOB, topic INT, part INT, off INT, at INT, cause BLOB, stage INT);
CREATE TABLE receipt (stage INT, session TEXT, seq INT, at INT, body BLOB, tail INT);
CREATE TABLE span (stage INT, topic INT, part INT, start INT, stop INT, session TEXT, seq INT, at INT, tail INT);
CREATE TABLE quiet (stage INT, topic INT, part INT, start INT, stop INT);
CREATE TABLE parked (stage INT, key BLOB, topic INT, part INT, off INT, id TEXT, lane TEXT,
    PRIMARY KEY (stage, key)) WITHOUT ROWID;
CREATE TABLE letter (stage INT, topic INT, part INT, off INT, id TEXT, lane TEXT, cas TEXT, at INT);
CREATE TABLE cas (cas TEXT PRIMARY KEY, stage INT, topic INT, part INT, off INT, state TEXT, body BLOB) WITHOUT ROWID;
CREATE TABLE fact (key TEXT, source TEXT, at INT, vals BLOB, topic INT, part INT, off INT);
CREATE TABLE consumes (stage INT, topic INT, PRIMARY KEY (stage, topic)) WITHOUT ROWID;
CREATE TABLE place (topic INT, part INT, start INT, subject INT, PRIMARY KEY (topic, part)) WITHOUT ROWID;
"""
_LANES: Final = "SELECT lane FROM parked WHERE stage = ? AND lane IS NOT NULL"
_DEAD: Final = """SELECT lane FROM letter l WHERE stage = ? AND lane IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM cas c WHERE c.cas = l.cas AND c.state = 'resolved')"""
_SORT: Final = """
CREATE INDEX by_id ON event (id, topic, part, off, at);
CREATE INDEX by_cause ON event (cause, stage) WHERE cause IS NOT NULL;
CREATE INDEX by_key ON fact (key, at);
CREATE INDEX by_place ON span (stage, topic, part, start);
CREATE TABLE silent (stage INT, topic INT, part INT, start INT, stop INT,
    PRIMARY KEY (stage, topic, part, start)) WITHOUT ROWID;
CREATE TABLE consumed (stage INT, topic INT, part INT, first INT, last INT, PRIMARY KEY (stage, topic, part)) WITHOUT ROWID;
INSERT INTO consumed SELECT stage, topic, part, min(start), max(stop) FROM span WHERE NOT tail GROUP BY stage, topic, part;
CREATE INDEX consumed_by ON consumed (topic, part);
CREATE TABLE waits (stage INT, topic INT, part INT, off INT, PRIMARY KEY (stage, topic, part, off)) WITHOUT ROWID;
INSERT OR IGNORE INTO waits SELECT stage, topic, part, off FROM parked WHERE topic IS NOT NULL;
INSERT OR IGNORE INTO waits SELECT stage, topic, part, off FROM cas WHERE state != 'resolved' AND topic IS NOT NULL;
"""


class Ledger:
    """The evidence. `databases` and `statements` are for the application's books; see `streams.books.Evidence`."""

    def __init__(
        self, topology: Topology, folder: Path, databases: Sequence[str] = (), statements: Sequence[Path] = ()
    ) -> None:
        self.topology = topology
        self.databases = databases
        self.statements = statements
        self.taken_at = 0
        self.complete = True  # it is read from the beginning
        self.whole = True  # and the beginning is still there
        self.tail = False  # receipts that come now are behind the cut
        self.stages = [stage.name for stage in topology.stages]
        self.topics = list(topology.by_topic)
        self.sql = sqlite3.connect(folder / "ledger.db", isolation_level=None)
        self.sql.executescript(_SCHEMA)
        self.sql.execute("BEGIN")
        self._number = {topic: number for number, topic in enumerate(self.topics)}
        self._stage = {stage: number for number, stage in enumerate(self.stages)}
        for number, stage in enumerate(topology.stages):
            rows = [
                (number, self._number[topic]) for topic in {*stage.topics, *(event_info(cls).topic for cls in stage.timers)}
            ]
            self.sql.executemany("INSERT INTO consumes VALUES (?, ?)", rows)
        self._events: list[tuple[Any, ...]] = []
        self._facts: list[tuple[Any, ...]] = []
        self._takers = self._made_takers()

    @property
    def read(self) -> Sequence[str]:
        """The topics whose records it takes."""
        return list(self._takers)

    def close(self) -> None:
        """Let go of the file."""
        self.sql.close()

    def take(self, records: Iterable[Record]) -> None:
        """Write records down, whatever topic they are of."""
        takers = self._takers
        for record in records:
            takers[record.topic](record)
        if len(self._events) >= _BATCH or len(self._facts) >= _BATCH:
            self._flush()

    def bounds(self, starts: Mapping[Place, int], subjects: Mapping[Place, int]) -> None:
        """Where each place was begun to be read, and where what is judged ends: what is behind that is evidence only."""
        self.whole = self.complete and not any(start for (topic, _), start in starts.items() if topic in self._number)
        rows = [(self._number[t], p, start, subjects[t, p]) for (t, p), start in starts.items() if t in self._number]
        self.sql.executemany("INSERT OR REPLACE INTO place VALUES (?, ?, ?, ?)", rows)

    def sort(self) -> None:
        """Everything has been taken: make it ready to be judged."""
        self._flush()
        self.sql.execute("COMMIT")
        self.sql.executescript(_SORT)
        rows = self.sql.execute("SELECT * FROM quiet ORDER BY stage, topic, part, start")
        self.sql.executemany("INSERT INTO silent VALUES (?, ?, ?, ?, ?)", _merged(rows))
        waiting = """INSERT INTO fact SELECT f.key, 'waiting', f.at, ?, NULL, NULL, NULL FROM fact f
            LEFT JOIN consumed c ON c.stage = ?2 AND c.topic = f.topic AND c.part = f.part
            WHERE f.topic IN (SELECT topic FROM consumes WHERE stage = ?2) AND f.off >= coalesce(c.last, 0)"""
        for number, stage in enumerate(self.stages):
            self.sql.execute(waiting, (_pack((stage,)), number))
            for found in (_LANES, _DEAD):
                self.put("waiting", [(lane, 0, (stage,)) for (lane,) in self.sql.execute(found, (number,)).fetchall()])

    # -- the application's ---------------------------------------------------------------------------------------------

    def put(self, source: str, rows: Iterable[tuple[str, int, tuple[Value, ...]]]) -> None:
        """See `Evidence`."""
        self.sql.executemany(
            "INSERT INTO fact VALUES (?, ?, ?, ?, NULL, NULL, NULL)",
            ((key, source, at, _pack(values)) for key, at, values in rows),
        )

    def by_key(self) -> Iterator[tuple[str, list[Fact]]]:
        """See `Evidence`."""
        last, facts = "", list[Fact]()
        for key, source, at, values in self.sql.execute("SELECT key, source, at, vals FROM fact ORDER BY key, at"):
            if key != last and facts:
                yield last, facts
                facts = []
            last = key
            facts.append(Fact(source, at, _unpack(values)))
        if facts:
            yield last, facts

    # -- records -------------------------------------------------------------------------------------------------------

    def _made_takers(self) -> dict[str, Callable[[Record], None]]:
        topology, name = self.topology, self.topology.name
        books = topology.books
        codec = Codec([*topology.events, Case, Receipt], FolderRegistry(topology.schemas))
        takers: dict[str, Callable[[Record], None]] = {}
        for cls in topology.events:
            topic = event_info(cls).topic
            makers = [(stage.name, self._stage[stage.name]) for stage in topology.producers(cls)]
            note: Any = (codec.decoder(cls), books.note[cls]) if books is not None and cls in books.note else None
            takers[topic] = self._event_taker(topic, makers, note)
        for stage in topology.stages:
            number = self._stage[stage.name]
            takers[names.retry(name, stage.name)] = lambda record, number=number: self._parked(record, number)  # type: ignore[misc]  # a default is no cell
            takers[names.dlq(name, stage.name)] = lambda record, number=number: self._letter(record, number)  # type: ignore[misc]  # as above
        decode_case, decode_receipt = codec.decoder(Case), codec.decoder(Receipt)
        takers[names.cases(name)] = lambda record: self._case(record, decode_case)
        takers[names.receipts(name)] = lambda record: self._receipt(record, decode_receipt)
        return takers

    def _event_taker(self, topic: str, makers: Sequence[tuple[str, int]], note: Any) -> Callable[[Record], None]:
        number, events, facts = self._number[topic], self._events.append, self._facts.append

        def take(record: Record) -> None:
            known = event_id(record)
            cause, stage = None, None
            if makers:
                cause = next((value for name, value in record.headers if name == CAUSE), None)
                stage = _maker(known, cause.decode("ascii", "replace"), makers) if cause else FOREIGN
            row = (
                pack(known),
                number,
                record.partition,
                record.offset,
                record.timestamp,
                cause and pack(cause.decode("ascii", "replace")),
                stage,
            )
            events(row)
            if note is not None:
                try:
                    key, values = note[1](note[0](record.value))
                except DecodeError:  # a dead letter says so
                    return
                facts((key, topic, record.timestamp, _pack(values), number, record.partition, record.offset))

        return take

    def _parked(self, record: Record, stage: int) -> None:
        _, parked = parse(record)
        if parked is None:
            self.sql.execute("DELETE FROM parked WHERE stage = ? AND key = ?", (stage, record.key))
            return
        own = parked.record
        row = (stage, record.key, self._number.get(own.topic), own.partition, own.offset, event_id(own), _text(own.key))
        self.sql.execute("INSERT OR REPLACE INTO parked VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def _letter(self, record: Record, stage: int) -> None:
        own = original(record)
        if own is None:
            return  # somebody else's: it is no end of a record of ours
        place = (self._number.get(own.topic), own.partition, own.offset)
        row = (stage, *place, event_id(own), _text(record.key), unbury(record)[1].get(CASE), record.timestamp)
        self.sql.execute("INSERT INTO letter VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def _case(self, record: Record, decode: Callable[[bytes | None], Case]) -> None:
        try:
            case = decode(record.value)
        except DecodeError:
            return
        place = (self._number.get(case.topic), case.partition, case.offset)
        body = _pack(tuple(decision.what for decision in case.decisions))
        row = (case.case_id, self._stage.get(case.stage), *place, case.state.value, body)
        self.sql.execute("INSERT OR REPLACE INTO cas VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def _receipt(self, record: Record, decode: Callable[[bytes | None], Receipt]) -> None:
        try:
            receipt = decode(record.value)
        except DecodeError:
            return
        stage = self._stage.get(receipt.stage)
        if stage is None:
            return  # of a stage that there is no more
        at = int(receipt.at.timestamp() * 1000)
        who = (receipt.session, receipt.sequence, at)
        counts = msgspec.structs.replace(receipt, ranges=(), silent=())
        self.sql.execute("INSERT INTO receipt VALUES (?, ?, ?, ?, ?, ?)", (stage, *who, _pack(counts), self.tail))
        spans = [(stage, self._number.get(s.topic), s.partition, s.start, s.end, *who, self.tail) for s in receipt.ranges]
        self.sql.executemany("INSERT INTO span VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", spans)
        quiet = [(stage, self._number.get(s.topic), s.partition, s.start, s.end) for s in receipt.silent]
        self.sql.executemany("INSERT INTO quiet VALUES (?, ?, ?, ?, ?)", quiet)

    def _flush(self) -> None:
        self.sql.executemany("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?)", self._events)
        self.sql.executemany("INSERT INTO fact VALUES (?, ?, ?, ?, ?, ?, ?)", self._facts)
        self._events.clear()
        self._facts.clear()


def pack(known: str) -> bytes:
    """An id in few bytes: 16 for one of ours."""
    if len(known) == 32:
        try:
            packed = bytes.fromhex(known)
        except ValueError:
            packed = b""
        if packed.hex() == known:
            return packed
    text = b"\0" + known.encode()
    return b"\0" + text if len(text) == 16 else text


def unpack(packed: bytes) -> str:
    """The id that `pack` was given."""
    return packed.hex() if len(packed) == 16 else packed.lstrip(b"\0").decode("utf-8", "replace")


def _maker(known: str, cause: str, makers: Sequence[tuple[str, int]]) -> int:
    """The stage that made an event of this id for this cause."""
    for index in range(_MOST):
        for stage, number in makers:
            if output_id(cause, stage, index) == known:
                return number
    return FOREIGN


def _merged(rows: Iterable[tuple[int, int, int, int, int]]) -> Iterator[tuple[int, int, int, int, int]]:
    """Spans of one place that touch or overlap as one."""
    held: list[int] = []
    for stage, topic, part, start, stop in rows:
        if held and held[:3] == [stage, topic, part] and start <= held[4]:
            held[4] = max(held[4], stop)
            continue
        if held:
            yield tuple(held)  # type: ignore[misc]  # five of them
        held = [stage, topic, part, start, stop]
    if held:
        yield tuple(held)  # type: ignore[misc]  # as above


def _text(key: bytes | None) -> str | None:
    return None if key is None else key.decode("utf-8", "replace")


_pack: Final = msgspec.msgpack.Encoder().encode
_unpack: Final = msgspec.msgpack.Decoder(tuple[Value, ...]).decode
