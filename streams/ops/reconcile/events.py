"""The events: each input has an end, each output a cause, and no id is there twice.

The one rule: what follows from a fault that is named already is no second one: a copy's copies, outputs of a lost cause.
"""

import math
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Final

import msgspec

from streams.ops.reconcile.chain import is_repair
from streams.ops.reconcile.findings import Open, Result
from streams.ops.reconcile.ledger import FOREIGN, Ledger, pack, unpack
from streams.receipts import Receipt
from streams.record import event_info
from streams.travel import FAN, output_id

_CHUNK: Final = 200_000
_decode: Final = msgspec.msgpack.Decoder(Receipt).decode
_TIMERS: Final = 12  # outputs of one event that may be timers: every event of such a stage is looked at
_LOST: Final = """
SELECT e.id, e.topic, e.part, e.off, e.at FROM event e INDEXED BY by_id
CROSS JOIN consumes s ON s.stage = ?1 AND s.topic = e.topic
CROSS JOIN place p ON p.topic = e.topic AND p.part = e.part AND e.off < p.subject
CROSS JOIN consumed c ON c.stage = ?1 AND c.topic = e.topic AND c.part = e.part AND e.off >= c.first AND e.off < c.last
WHERE NOT EXISTS (SELECT 1 FROM event o WHERE o.cause = e.id AND o.stage = ?1)
AND NOT EXISTS (SELECT 1 FROM silent q WHERE q.stage = ?1 AND q.topic = e.topic AND q.part = e.part AND q.stop > e.off
    AND q.start = (SELECT max(start) FROM silent m
        WHERE m.stage = ?1 AND m.topic = e.topic AND m.part = e.part AND m.start <= e.off))
AND NOT EXISTS (SELECT 1 FROM waits w WHERE w.stage = ?1 AND w.topic = e.topic AND w.part = e.part AND w.off = e.off)
AND NOT EXISTS (SELECT 1 FROM hole h WHERE h.stage = ?1 AND h.topic = e.topic AND h.part = e.part
    AND e.off >= h.start AND e.off < h.stop)
"""
_ORPHANS: Final = """
SELECT o.cause, o.id, o.topic, o.part, o.off, o.at FROM event o INDEXED BY by_cause
WHERE o.cause IS NOT NULL AND o.stage = ?1
AND NOT EXISTS (SELECT 1 FROM event e JOIN consumes s ON s.stage = ?1 AND s.topic = e.topic WHERE e.id = o.cause)
"""
_CONSUMED: Final = """
SELECT c.stage, c.topic, count(*) FROM event e CROSS JOIN consumed c ON c.topic = e.topic AND c.part = e.part
WHERE e.off >= c.first AND e.off < c.last GROUP BY 1, 2
"""
_EARLY: Final = """
SELECT count(*) FROM event e CROSS JOIN consumed c ON c.topic = e.topic AND c.part = e.part WHERE e.off < c.first
"""
_DOUBLED: Final = """
CREATE TABLE doubled (id BLOB PRIMARY KEY) WITHOUT ROWID;
INSERT INTO doubled SELECT id FROM event GROUP BY id HAVING count(*) > 1;
CREATE TABLE lost (id BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE timer (id BLOB PRIMARY KEY, cause BLOB) WITHOUT ROWID;
"""


class Events:
    """The checks. `keeps` is how long a topic keeps its records at least, in seconds; `now` in milliseconds since the epoch."""

    def __init__(self, ledger: Ledger, result: Result, keeps: Mapping[str, float], now: int) -> None:
        self._ledger = ledger
        self._sql = ledger.sql
        self._result = result
        self._keeps = keeps
        self._now = now
        self._sql.executescript(_DOUBLED)
        begun = self._sql.execute("SELECT DISTINCT topic FROM place WHERE start > 0")
        self._cut = {ledger.topics[topic] for (topic,) in begun}  # topics whose beginning is not there

    def check(self) -> None:
        """All of it."""
        self._count()
        for number in range(len(self._ledger.stages)):
            lost = self._lost(number)
            self._partly_lost(number, lost)
        for number in range(len(self._ledger.stages)):
            self._orphans(number)
        self._foreign()
        self._doubled()
        self._open()

    def _place(self, topic: int, part: int, off: int) -> str:
        return f"{self._ledger.topics[topic]}[{part}]@{off}"

    def _count(self) -> None:
        stages, topics, result = self._ledger.stages, self._ledger.topics, self._result
        for topic, count in self._sql.execute("SELECT topic, count(*) FROM event GROUP BY topic"):
            result.counts[topics[topic]] = count
        for stage, topic, count in self._sql.execute(_CONSUMED):
            result.consumed.setdefault(stages[stage], {})[topics[topic]] = count
        for stage, topic, count in self._sql.execute("SELECT stage, topic, count(*) FROM event WHERE stage >= 0 GROUP BY 1, 2"):
            result.emitted.setdefault(stages[stage], {})[topics[topic]] = count
        (count,) = self._sql.execute(_EARLY).fetchone()
        result.blind("handled before the first receipt that was read", count)

    def _lost(self, stage: int) -> int:
        """Inputs that were consumed and came to no end."""
        name = self._ledger.stages[stage]
        emits = [event_info(cls).topic for cls in self._ledger.topology.stages[stage].emits]
        kept = min((self._keeps.get(topic, math.inf) for topic in emits if topic in self._cut), default=math.inf)
        receipts = (each.where.partition(":")[0] for each in self._result.differences if each.kind == "receipt-missing")
        gone = name in receipts
        count = 0
        for known, topic, part, off, at in self._sql.execute(_LOST, (stage,)).fetchall():
            if gone:
                self._result.blind("may have been told of by a receipt that is missing")
                continue
            if at < self._now - kept * 1000:
                self._result.blind("outputs that retention may have removed")
                continue
            count += 1
            self._lose(unpack(known), stage)
            ours = f"{self._place(topic, part, off)}, consumed"
            repair = f"replay {name} from {self._place(topic, part, off)} with --emit missing"
            theirs = "no output, no parked record, no case, and no receipt says that there is none"
            self._result.add("lost", name, (unpack(known),), ours=ours, theirs=theirs, repair=repair, at=at)
        return count

    def _lose(self, cause: str, stage: int) -> None:
        """What it may have led to may be a cause itself."""
        ids = [(pack(output_id(cause, self._ledger.stages[stage], index)),) for index in range(FAN)]
        self._sql.executemany("INSERT OR IGNORE INTO lost VALUES (?)", ids)

    def _partly_lost(self, stage: int, lost: int) -> None:
        """Outputs that the receipts tell of and that are not there, though others of their cause are."""
        name = self._ledger.stages[stage]
        told = self._told(stage)
        found = self._result.emitted.get(name, {})
        short = {topic: count - found.get(topic, 0) for topic, count in told.items() if count > found.get(topic, 0)}
        if not short:
            return
        missing = list(self._gaps_in_indices(stage))
        for cause, index, at in missing:
            known = output_id(cause, name, index)
            self._sql.execute("INSERT OR IGNORE INTO lost VALUES (?)", (pack(known),))
            repair = f"replay {name} for its cause {cause} with --emit missing"
            self._result.add(
                "lost",
                name,
                (known, cause),
                ours=f"output {index} of its cause",
                theirs="not there, though later ones are",
                repair=repair,
                at=at,
            )
        rest = sum(short.values()) - lost - len(missing)
        if rest > 0 and lost:  # one that is lost may have had several
            self._result.blind("further outputs that the receipts tell of, maybe of what is named as lost", rest)
        elif rest > 0:
            for topic, count in short.items():
                self._result.add(
                    "lost",
                    name,
                    (topic,),
                    ours=f"{told[topic]:,} outputs by the receipts",
                    theirs=f"{count:,} fewer are there",
                    repair=f"replay {name} with --emit missing",
                    at=None,
                )

    def _told(self, stage: int) -> dict[str, int]:
        """Outputs by topic, as the receipts have it; of topics that keep for long enough to be compared."""
        told, old = dict[str, int](), set[str]()
        for at, body in self._sql.execute("SELECT DISTINCT at, body FROM receipt WHERE stage = ? AND NOT tail", (stage,)):
            receipt = _decode(body)
            for topic, count in () if is_repair(receipt) else receipt.outputs.items():
                told[topic] = told.get(topic, 0) + count
                if topic in self._cut and at < self._now - self._keeps.get(topic, math.inf) * 1000:
                    old.add(topic)
        if not self._ledger.complete:
            return {}
        return {topic: count for topic, count in told.items() if topic not in old}

    def _gaps_in_indices(self, stage: int) -> Iterator[tuple[str, int, int]]:
        """Causes some of whose outputs are there, and the indices before the last that are not and that were no timer."""
        name = self._ledger.stages[stage]
        rows = self._sql.execute(
            "SELECT cause, id, at FROM event INDEXED BY by_cause WHERE cause IS NOT NULL AND stage = ? ORDER BY cause", (stage,)
        )
        last, ids, when = b"", set[str](), 0
        for cause, known, at in chain(rows, [(b"", b"", 0)]):
            if cause != last:
                if last:
                    text, index, left = unpack(last), 0, set(ids)
                    while left and index < FAN:
                        expected = output_id(text, name, index)
                        if expected in left:
                            left.discard(expected)
                        else:
                            yield text, index, when
                        index += 1
                last, ids = cause, set()
            ids.add(unpack(known))
            when = at

    def _orphans(self, stage: int) -> None:
        """Outputs whose cause is no event that the stage consumes."""
        stage_ = self._ledger.topology.stages[stage]
        rows = self._sql.execute(_ORPHANS, (stage,))
        cut = not self._cut.isdisjoint(stage_.topics)
        while chunk := list(islice(rows, _CHUNK)):
            unknown = {row[0] for row in chunk} - self._are("lost", [row[0] for row in chunk])
            if stage_.timers and unknown:
                unknown -= self._timers(stage, unknown)
            for cause, known, topic, part, off, at in chunk:
                if cause not in unknown:
                    continue
                if cut:
                    self._result.blind("outputs whose cause is no longer kept")
                    continue
                ours, theirs = (
                    f"{self._place(topic, part, off)}, caused by {unpack(cause)}",
                    f"{stage_.name} consumes no such event",
                )
                self._result.add(
                    "no-cause",
                    stage_.name,
                    (unpack(known),),
                    ours=ours,
                    theirs=theirs,
                    repair="find its producer; a foreign event is undone by hand",
                    at=at,
                )

    def _are(self, table: str, ids: list[bytes]) -> set[bytes]:
        return {known for known in ids if self._sql.execute(f"SELECT 1 FROM {table} WHERE id = ?", (known,)).fetchone()}  # noqa: S608  # a table's name

    def _timers(self, stage: int, unknown: set[bytes]) -> set[bytes]:
        """Which of these are what the stage sent itself for later: nothing keeps those, but ids follow from causes."""
        name, found = self._ledger.stages[stage], set[bytes]()
        causes = self._sql.execute("SELECT e.id FROM event e JOIN consumes s ON s.stage = ? AND s.topic = e.topic", (stage,))
        for (known,) in causes:
            cause = unpack(known)
            for index in range(_TIMERS):
                made = pack(output_id(cause, name, index))
                if made in unknown:
                    found.add(made)
                    self._sql.execute("INSERT OR IGNORE INTO timer VALUES (?, ?)", (made, known))
        return found

    def _foreign(self) -> None:
        """Events that no stage has made, on topics where only stages write."""
        rows = self._sql.execute("SELECT id, topic, part, off, at, cause FROM event WHERE stage = ?", (FOREIGN,))
        for known, topic, part, off, at, cause in rows.fetchall():
            theirs = f"no stage makes this id for the cause {unpack(cause)}" if cause else "it has no cause"
            where = self._ledger.topics[topic]
            self._result.add(
                "foreign",
                where,
                (unpack(known),),
                ours=self._place(topic, part, off),
                theirs=theirs,
                repair="find its producer; a foreign event is undone by hand",
                at=at,
            )

    def _doubled(self) -> None:
        """Ids that are there more than once, where it began."""
        roots = """SELECT d.id FROM doubled d WHERE NOT EXISTS (
            SELECT 1 FROM event o WHERE o.id = d.id AND o.stage >= 0 AND (
                EXISTS (SELECT 1 FROM doubled c WHERE c.id = o.cause)
                OR EXISTS (SELECT 1 FROM timer t JOIN doubled c ON c.id = t.cause WHERE t.id = o.cause)
                OR EXISTS (SELECT 1 FROM event e JOIN twice w ON w.stage = o.stage AND w.topic = e.topic AND w.part = e.part
                    AND e.off >= w.start AND e.off < w.stop WHERE e.id = o.cause)))"""
        for (known,) in self._sql.execute(roots).fetchall():
            found = self._sql.execute(
                "SELECT topic, part, off, at FROM event WHERE id = ? ORDER BY at, off", (known,)
            ).fetchall()
            places = [self._place(*row[:3]) for row in found]
            where = self._ledger.topics[found[0][0]]
            repair = "find its producer; stages with a store have handled it once, see the others' outputs"
            self._result.add(
                "doubled", where, (unpack(known),), ours=places[0], theirs=", ".join(places[1:]), repair=repair, at=found[-1][3]
            )

    def _open(self) -> None:
        """What is on its way."""
        waiting = """SELECT count(*), min(e.at) FROM event e CROSS JOIN consumes s ON s.stage = ?1 AND s.topic = e.topic
            LEFT JOIN consumed c ON c.stage = ?1 AND c.topic = e.topic AND c.part = e.part WHERE e.off >= coalesce(c.last, 0)"""
        for number, name in enumerate(self._ledger.stages):
            count, oldest = self._sql.execute(waiting, (number,)).fetchone()
            if count:
                self._result.open.append(Open(name, "waits", count, oldest))
            (count,) = self._sql.execute("SELECT count(*) FROM parked WHERE stage = ?", (number,)).fetchone()
            if count:
                self._result.open.append(Open(name, "parked", count, None))
