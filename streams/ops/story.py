"""The story of one key: all its events over all topics of a topology, each below what caused it, with what became of it.

The one rule: what is told was read. What a topic keeps no more is not guessed at; only who made an event follows from its id.

Events of the key are in one partition of each topic. An event with another key (`@event` names another field) belongs to the
story if what caused it does. A timer is on no topic: it is seen on the retry topic for as long as that keeps it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from streams import names
from streams.codec import Codec, decode_any
from streams.dead import CASE, State, unbury
from streams.errors import DecodeError
from streams.ops.cases import as_dict
from streams.ops.show import text
from streams.ops.trail import Found, Source, cause_of
from streams.parked import place
from streams.record import Record
from streams.registry import FolderRegistry
from streams.session import Place
from streams.stage import Stage
from streams.topology import Topology
from streams.travel import FAN, event_id, output_id


class Handled(msgspec.Struct, frozen=True):
    """What became of an event at one stage that consumes it.

    `state`: waiting (not read yet), done, parked, held (for its case), dead, redriven or dismissed. `attempts` are those that
    the retry topic and the case still know of. `due` and `error` are those of a parked one, `case` has every decision.
    """

    stage: str
    state: str
    attempts: int
    due: datetime | None = None
    error: str = ""
    letters: tuple[str, ...] = ()
    case: dict[str, Any] | None = None


class Step(msgspec.Struct, frozen=True):
    """One event. `parent` is the index of the event that caused it, `after` the ms between the two; `None` for a beginning.

    `stage` made it: "" for one from outside, "unknown" if no stage makes such an id of this cause. The offset of a timer is
    below 0. `moved` says what it moved outside Kafka. What cannot be decoded has its bytes as `value`, and says why.
    """

    id: str
    cause: str | None
    parent: int | None
    depth: int
    at: datetime
    after: int | None
    event: str | None
    topic: str
    partition: int
    offset: int
    key: Any
    stage: str
    moved: str
    handled: tuple[Handled, ...]
    value: Any
    undecodable: str | None = None


def tell(topology: Topology, key: str, source: Source, since: int = 0) -> list[Step]:
    """The story of a key, causes before effects, earlier ones first; empty for a key that nobody knows."""
    found = Found(topology, key.encode(), since)
    found.read(source)
    return _Teller(
        topology, found, {s.name: source.committed(names.group(topology.name, s.name)) for s in topology.stages}
    ).steps()


class _Teller:
    """Puts what was found in order, and says of each event what became of it."""

    def __init__(self, topology: Topology, found: Found, committed: Mapping[str, Mapping[Place, int]]) -> None:
        self._topology = topology
        self._registry = FolderRegistry(topology.schemas)
        self._codec = Codec(topology.by_topic.values(), self._registry)
        self._found = found
        self._committed = committed

    def steps(self) -> list[Step]:
        """Each event once. Whatever claims to have caused itself is a beginning."""
        records = sorted(self._found.records.values(), key=lambda one: (one.timestamp, one.topic, one.partition, one.offset))
        by_id: dict[str, Record] = {}
        for record in records:
            by_id.setdefault(event_id(record), record)
        timers = self._timers(records)
        parents = {place(one): by_id.get(cause_of(one) or "") or timers.get(cause_of(one) or "") for one in records}
        children: dict[bytes | None, list[Record]] = {}
        for record in records:
            parent = parents[place(record)]
            children.setdefault(None if parent is None else place(parent), []).append(record)
        steps: list[Step] = []
        told: dict[bytes, int] = {}
        for beginning in (*children.get(None, ()), *records):  # in the end those of a circle, which nobody of us makes
            for record, depth in _below(beginning, children, told):
                parent = parents[place(record)] if depth else None
                told[place(record)] = len(steps)
                steps.append(self._step(record, parent, told[place(parent)] if parent else None, depth))
        return steps

    def _timers(self, records: Iterable[Record]) -> dict[str, Record]:
        """What a timer that is kept no more would be named, and the event that it was set for."""
        return {
            output_id(event_id(record), stage.name, index): record
            for record in records
            for stage in self._consumers(record)
            if stage.timers
            for index in range(FAN)
        }

    def _consumers(self, record: Record) -> list[Stage]:
        cls = self._topology.by_topic.get(record.topic)
        return [stage for stage in self._topology.stages if any(cls in handler.consumes for handler in stage.handlers)]

    def _step(self, record: Record, parent: Record | None, index: int | None, depth: int) -> Step:
        cls = self._topology.by_topic.get(record.topic)
        name, wrong, moved = None, None, ""
        value: Any = None
        try:
            release, value = decode_any(record.value, self._registry)
            name = release.schema.record
            moved = self._topology.moves(self._codec.decoder(cls)(record.value)) if cls else ""
        except DecodeError as error:
            value, wrong = text(record.value), str(error)
        return Step(
            event_id(record),
            cause_of(record),
            index,
            depth,
            datetime.fromtimestamp(record.timestamp / 1000, UTC),
            record.timestamp - parent.timestamp if parent else None,
            name,
            record.topic,
            record.partition,
            record.offset,
            text(record.key),
            self._maker(record, cls),
            moved,
            tuple([self._handled(stage, record) for stage in self._consumers(record)]),
            value,
            wrong,
        )

    def _maker(self, record: Record, cls: type | None) -> str:
        """The stage whose id it has: that is the same however often it is made, and nobody else's."""
        cause, own = cause_of(record), event_id(record)
        if cls in self._topology.sources:
            return ""
        made_by = [stage for stage in self._topology.stages if cause and cls in (*stage.emits, *stage.timers)]
        for stage in made_by:
            if any(output_id(cause or "", stage.name, index) == own for index in range(FAN)):
                return stage.name
        return "unknown"

    def _handled(self, stage: Stage, record: Record) -> Handled:
        at = (stage.name, place(record))
        history, letters = self._found.tables.get(at, []), self._found.letters.get(at, [])
        case = next((found for one in letters if (found := self._found.cases.get(unbury(one)[1].get(CASE, "")))), None)
        last = history[-1] if history else None
        seen = self._committed[stage.name].get((record.topic, record.partition), 0) > record.offset
        if last is not None:
            state = "held" if last.due == float("inf") else "parked"
        elif letters:
            state = "done" if case and case.state is State.RESOLVED else case.state.value if case else "dead"
        else:
            state = "done" if history or seen else "waiting"
        spent = max([case.attempts if case else 0, *(parked.attempt for parked in history if parked)])
        failure = last.failure if last else None
        return Handled(
            stage.name,
            "dead" if state == State.OPEN else state,
            spent + (state == "done"),
            datetime.fromtimestamp(last.due, UTC) if last and state == "parked" and last.due else None,
            f"{failure.kind}: {failure.message}" if failure else f"{case.error}: {case.message}" if case else "",
            tuple([letter.place for letter in letters]),
            as_dict(case) if case else None,
        )


def _below(
    beginning: Record, children: Mapping[bytes | None, Sequence[Record]], told: Mapping[bytes, int]
) -> Iterator[tuple[Record, int]]:
    """An event and all that it led to, each before its own effects, unless it was told before."""
    waiting = [(beginning, 0)]
    while waiting:
        record, depth = waiting.pop()
        if place(record) not in told:
            yield record, depth
            waiting += [(child, depth + 1) for child in reversed(children.get(place(record), ()))]
