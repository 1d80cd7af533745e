"""The receipts by themselves: each adds up, none is missing, and the ranges of a partition join.

The one rule: a gap is either a receipt that is gone or records that nobody handled, and the records say which.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Final

import msgspec

from streams import names
from streams.ops.reconcile.findings import Result
from streams.ops.reconcile.ledger import Ledger, unpack
from streams.receipts import Receipt
from streams.session import Place

_TABLES: Final = """
CREATE TABLE hole (stage INT, topic INT, part INT, start INT, stop INT);
CREATE TABLE twice (stage INT, topic INT, part INT, start INT, stop INT);
"""
_WITHOUT: Final = "find who removed it; what it covered is checked by its outputs only"
_decode: Final = msgspec.msgpack.Decoder(Receipt).decode
Committed = Mapping[str, Mapping[Place, int]]
"""Per group the next offset of each place."""


def is_repair(receipt: Receipt) -> bool:
    """Whether it tells of outputs that `towpath replay --emit missing` has put back: other receipts tell of them already."""
    return receipt.consumed == receipt.parked_out == 0 and not receipt.parked_in and bool(receipt.outputs)


class Chain:
    """The check. It leaves the tables `hole` and `twice`: offsets that no receipt speaks of, and that several do."""

    def __init__(self, ledger: Ledger, result: Result) -> None:
        self._ledger = ledger
        self._result = result
        self._missing: dict[tuple[int, str], list[int]] = defaultdict(list)
        self._repaired: set[int] = set()  # stages of which outputs were published again
        ledger.sql.executescript(_TABLES)

    def check(self, before: Committed, after: Committed) -> None:
        """All of it. `before` and `after` are the groups' offsets, asked for before and after the receipts were read."""
        self._receipts()
        self._sequences()
        rows = self._ledger.sql.execute(
            "SELECT DISTINCT stage, topic, part, start, stop, session, seq, at FROM span "
            "WHERE topic IS NOT NULL ORDER BY stage, topic, part, start, stop"
        )
        for place, spans in groupby(rows, itemgetter(0, 1, 2)):
            end = self._join(place, (row[3:] for row in spans))
            self._tail(place, end, (before, after))

    def _receipts(self) -> None:
        result, stages = self._result, self._ledger.stages
        for session, seq, at, body in self._ledger.sql.execute("SELECT session, seq, at, body FROM receipt WHERE NOT tail"):
            receipt = _decode(body)
            result.receipts += 1
            if is_repair(receipt):
                self._repaired.add(self._ledger.stages.index(receipt.stage))
            done = receipt.verdicts.get("done", 0)
            if receipt.consumed + receipt.parked_out != done + receipt.dead - receipt.held + receipt.parked_in:
                ours = f"{receipt.consumed} consumed, {receipt.parked_out} left the retry topic"
                theirs = f"{done} done, {receipt.dead} dead, {receipt.held} held, {receipt.parked_in} parked"
                result.add(
                    "receipt-unsound",
                    receipt.stage,
                    (f"{session}#{seq}",),
                    ours=ours,
                    theirs=theirs,
                    repair="find who wrote it",
                    at=at,
                )
        twice = "SELECT stage, session, seq, count(*), max(at) FROM receipt GROUP BY stage, session, seq HAVING count(*) > 1"
        for stage, session, seq, count, at in self._ledger.sql.execute(twice):
            ours, theirs = "one receipt", f"{count} of this number"
            result.add(
                "receipt-doubled",
                stages[stage],
                (f"{session}#{seq}",),
                ours=ours,
                theirs=theirs,
                repair="find who copied it",
                at=at,
            )

    def _sequences(self) -> None:
        rows = self._ledger.sql.execute("SELECT stage, session, seq, at FROM receipt ORDER BY stage, session, seq")
        for (stage, session), pairs in groupby(rows, itemgetter(0, 1)):
            expected = 0 if self._ledger.complete else None
            for _, _, seq, at in pairs:
                if expected is not None and seq > expected:
                    self._missing[stage, session] += range(expected, seq)
                    self._result.add(
                        "receipt-missing",
                        self._ledger.stages[stage],
                        tuple(f"{session}#{number}" for number in range(expected, seq)),
                        ours=f"a receipt {seq} of this session",
                        theirs=f"{seq - expected} before it are not there",
                        repair=_WITHOUT,
                        at=at,
                    )
                expected = seq + 1

    def _join(self, place: tuple[int, int, int], spans: Iterable[tuple[int, int, str, int, int]]) -> int:
        """Look at the ranges of one place in their order. Where they end."""
        end, session, seq = -1, "", -1
        doubled: list[list[int]] = []
        for start, stop, whose, number, at in spans:
            end = start if end < 0 else end
            if start > end and not self._is_missing(place[0], (session, seq), (whose, number)):
                self._gap(place, end, start, at)
            elif start > end:
                self._note("hole", place, end, start)
            if start < end:
                if doubled and doubled[-1][1] >= start:
                    doubled[-1][1] = max(doubled[-1][1], min(stop, end))
                else:
                    doubled.append([start, min(stop, end), at])
            if stop >= end:
                end, session, seq = stop, whose, number
        for start, stop, at in doubled:
            self._note("twice", place, start, stop)
            ours, theirs = f"offsets [{start}, {stop}) once", "receipts of them from two times"
            self._add(
                "overlap",
                place,
                (f"{start}-{stop - 1}",),
                (ours, theirs),
                "look who moved the group's offsets back; outputs have the same ids",
                at,
            )
        return end

    def _is_missing(self, stage: int, one: tuple[str, int], other: tuple[str, int]) -> bool:
        """Whether a receipt is known to be missing between these two."""
        if one[0] == other[0]:
            return any(one[1] < number < other[1] for number in self._missing.get((stage, one[0]), ()))
        later = any(number > one[1] for number in self._missing.get((stage, one[0]), ()))
        return later or any(number < other[1] for number in self._missing.get((stage, other[0]), ()))

    def _gap(self, place: tuple[int, int, int], start: int, stop: int, at: int | None) -> None:
        self._note("hole", place, start, stop)
        stage, topic, part = place
        self._ledger.sql.execute("CREATE INDEX IF NOT EXISTS event_place ON event (topic, part, off)")
        rows = self._ledger.sql.execute(
            "SELECT e.id, EXISTS (SELECT 1 FROM event o WHERE o.cause = e.id AND o.stage = ?) OR "
            "EXISTS (SELECT 1 FROM waits w WHERE w.stage = ? AND w.topic = e.topic AND w.part = e.part AND w.off = e.off) "
            "FROM event e WHERE e.topic = ? AND e.part = ? AND e.off >= ? AND e.off < ? ORDER BY e.off",
            (stage, stage, topic, part, start, stop),
        ).fetchall()
        ids = tuple(unpack(known) for known, handled in rows if not (handled and stage in self._repaired))
        if not rows:
            self._result.blind("a gap in the receipts, whose records are no longer kept", stop - start)
        elif stage in self._repaired and all(handled for _, handled in rows):
            return  # its outputs were published by a repair
        elif stage not in self._repaired and any(handled for _, handled in rows):
            sides = (f"offsets [{start}, {stop}) handled", "no receipt of it")
            self._add("receipt-missing", place, ids, sides, _WITHOUT, at)
        else:
            where = f"{self._ledger.topics[topic]}[{part}]@{start}"
            sides = (f"{len(rows)} records at offsets [{start}, {stop})", "nobody handled them")
            repair = f"replay {self._ledger.stages[stage]} from {where} with --emit missing, or set the group's offset back"
            self._add("gap", place, ids, sides, repair, at)

    def _tail(self, place: tuple[int, int, int], end: int, committed: tuple[Committed, Committed]) -> None:
        stage, topic, part = place
        group = names.group(self._ledger.topology.name, self._ledger.stages[stage])
        before, after = (offsets.get(group, {}).get((self._ledger.topics[topic], part)) for offsets in committed)
        if before is not None and before > end:
            self._gap(place, end, before, None)
        elif after is not None and after < end:
            sides = (f"handled up to offset {end}", f"the group stands at {after}")
            self._add(
                "overlap",
                place,
                (f"{after}-{end - 1}",),
                sides,
                "set the group's offset to where the receipts end, before the stage starts",
                None,
            )

    def _note(self, table: str, place: tuple[int, int, int], start: int, stop: int) -> None:
        self._ledger.sql.execute(f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?)", (*place, start, stop))  # noqa: S608  # one of two words

    def _add(
        self, kind: str, place: tuple[int, int, int], ids: tuple[str, ...], sides: tuple[str, str], repair: str, at: int | None
    ) -> None:  # a difference at a place
        where = f"{self._ledger.stages[place[0]]}: {self._ledger.topics[place[1]]}[{place[2]}]"
        self._result.add(kind, where, ids, ours=sides[0], theirs=sides[1], repair=repair, at=at)
