"""The history checker: whether what was recorded of a run can be the work of a system that loses and doubles nothing.

The one rule: it knows nothing of the runtime whose work it judges. It reads what went in, what came out, where the groups stand
and what happened outside, and imports none of the code that did it.

After Jepsen's Kafka workload (https://jepsen.io/analyses/redpanda-21.10.1), which infers from histories alone as well.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from itertools import pairwise
from typing import Literal

import msgspec

Place = tuple[str, int, int]
"""Topic, partition, offset."""
Kind = Literal["lost", "doubled", "reordered", "aborted-seen", "effect-doubled", "conservation"]


class Seen(msgspec.Struct, frozen=True):
    """A record of an event topic. `cause` is "" where a producer wrote it; `id` is derived from its place if it has none.

    `committed` is False for one that a read_uncommitted reader sees and a read_committed one does not.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    id: str
    cause: str = ""
    committed: bool = True

    @property
    def place(self) -> Place:
        """Where it is."""
        return (self.topic, self.partition, self.offset)


class Letter(msgspec.Struct, frozen=True):
    """A committed dead letter: of which stage, and which record it was."""

    stage: str
    id: str
    origin: Place


class Waiting(msgspec.Struct, frozen=True):
    """What a stage's retry topic holds at the end of the history."""

    stage: str
    id: str
    origin: Place


class Handled(msgspec.Struct, frozen=True):
    """A handler was given this record, whatever came of it."""

    stage: str
    worker: str
    place: Place


class Effect(msgspec.Struct, frozen=True):
    """Something done outside Kafka that may be there once for a kind and key: a charge of an order, a movement of stock."""

    kind: str
    key: str


class Balance(msgspec.Struct, frozen=True):
    """Two sums that have to be equal."""

    name: str
    expected: int
    found: int


class Part(msgspec.Struct, frozen=True):
    """A stage: what it reads and writes, and whether it keeps each key's order."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    ordered: bool = True


class Anomaly(msgspec.Struct, frozen=True):
    """What cannot be so. `where` is a place, an id or a key; `text` says it in a sentence."""

    kind: Kind
    where: str
    text: str


class History(msgspec.Struct, kw_only=True):
    """What was recorded of one run. All of it is of committed records but `records`, which say so each, and `handled`.

    `committed` are the groups' offsets by stage, topic and partition, read after the records. `silent` are records of which
    the receipts say that they came to an end without output, by stage and place. `ends`: each of these keys has to appear on
    one of its topics, or to be dead or waiting somewhere. `single`: topics with at most one record for each cause. `redriven`:
    ids of dead records that went in once more, out of their order by a decision. `timers`: ids of what stages sent themselves
    for later; None where nobody knows, then a cause of which there is no record is not looked into.
    """

    parts: Sequence[Part]
    records: Sequence[Seen]
    letters: Sequence[Letter] = ()
    waiting: Sequence[Waiting] = ()
    handled: Sequence[Handled] = ()
    committed: Mapping[tuple[str, str, int], int] = {}
    silent: Set[tuple[str, Place]] = frozenset()
    effects: Sequence[Effect] = ()
    balances: Sequence[Balance] = ()
    ends: Mapping[bytes, Set[str]] = {}
    redriven: Set[str] = frozenset()
    single: Set[str] = frozenset()
    timers: Set[str] | None = None


def check(history: History) -> list[Anomaly]:
    """Every anomaly of a history; none: it may be right. Memory grows with the history, by some 500 bytes a record."""
    index = _Index(history)
    found: list[Anomaly] = []
    for look in (_lost, _ended, _twice, _fates, _ahead, _reordered, _aborted, _outside):
        found += look(history, index)
    return found


class _Index:
    """The committed records of a history, by what the checks ask for."""

    def __init__(self, history: History) -> None:
        self.by_topic: dict[str, list[Seen]] = defaultdict(list)
        self.by_id: dict[str, Seen] = {}
        self.by_place: dict[Place, Seen] = {}
        self.by_cause: dict[str, list[Seen]] = defaultdict(list)
        self.undone: dict[str, Seen] = {}
        self.undone_places: set[Place] = set()
        for seen in history.records:
            if not seen.committed:
                self.undone[seen.id] = seen
                self.undone_places.add(seen.place)
                continue
            self.by_topic[seen.topic].append(seen)
            self.by_id.setdefault(seen.id, seen)
            self.by_place[seen.place] = seen
            if seen.cause:
                self.by_cause[seen.cause].append(seen)
        self.dead = {(letter.stage, letter.origin) for letter in history.letters}
        self.parked = {(waiting.stage, waiting.origin) for waiting in history.waiting}
        writers = Counter(topic for part in history.parts for topic in part.outputs)
        self.own = {part.name: {topic for topic in part.outputs if writers[topic] == 1} for part in history.parts}

    def outputs(self, part: Part, record: Seen, topics: Set[str] | None = None) -> list[Seen]:
        """What a stage wrote for a record; `topics`: on these alone."""
        caused = self.by_cause.get(record.id)
        if caused is None:
            return []
        among = part.outputs if topics is None else topics
        return [seen for seen in caused if seen.topic in among]

    def inputs(self, history: History, part: Part) -> Iterator[tuple[Seen, int]]:
        """The records that a stage is given, each with where its group stands there."""
        for topic in part.inputs:
            at: dict[int, int] = {}
            for record in self.by_topic.get(topic, ()):
                partition = record.partition
                if partition not in at:
                    at[partition] = history.committed.get((part.name, topic, partition), 0)
                yield record, at[partition]


def _lost(history: History, index: _Index) -> Iterator[Anomaly]:
    """The group is past it, and nothing says what became of it."""
    for part in history.parts:
        for record, at in index.inputs(history, part):
            fate = (part.name, record.place)
            if record.offset >= at or fate in index.dead or fate in index.parked or fate in history.silent:
                continue
            if not index.outputs(part, record):
                text = f"{part.name} is past it, and it has no output, waits nowhere, is not dead, and no receipt speaks of it"
                yield Anomaly("lost", _name(record.place), text)


def _ended(history: History, index: _Index) -> Iterator[Anomaly]:
    """A key that came to no end."""
    if not history.ends:
        return
    there: dict[bytes, set[str]] = defaultdict(set)
    for seen in index.by_place.values():
        if seen.key is not None:
            there[seen.key].add(seen.topic)
    kept = {origin for _, origin in index.dead | index.parked}
    stopped = {index.by_place[origin].key for origin in kept if origin in index.by_place}
    for key, topics in history.ends.items():
        if key not in stopped and not there[key] & topics:
            yield Anomaly("lost", repr(key), f"it never came to {' or '.join(sorted(topics))}")


def _twice(history: History, index: _Index) -> Iterator[Anomaly]:
    """One output, written twice."""
    ids = Counter((seen.topic, seen.id) for seen in index.by_place.values() if seen.cause)
    for (topic, name), count in ids.items():
        if count > 1:
            yield Anomaly("doubled", name, f"it is on {topic} {count} times")
    single = {(seen.topic, seen.id): seen.cause for seen in index.by_place.values() if seen.topic in history.single}
    causes = Counter((topic, cause) for (topic, _), cause in single.items() if cause)
    for (topic, cause), count in causes.items():
        if count > 1:
            yield Anomaly("doubled", cause, f"it caused {count} records on {topic}, and may cause one")
    letters = Counter(history.letters)
    for letter, count in letters.items():
        if count > 1 and letter.id not in history.redriven:
            yield Anomaly("doubled", _name(letter.origin), f"{letter.stage} buried it {count} times")


def _fates(history: History, index: _Index) -> Iterator[Anomaly]:
    """A record of which two things became that exclude one another."""
    for part in history.parts:
        for record, _ in index.inputs(history, part):
            if record.id in history.redriven:
                continue
            fate = (part.name, record.place)
            outputs, dead = bool(index.outputs(part, record, index.own[part.name])), fate in index.dead
            silent = fate in history.silent
            waits = not dead and fate in index.parked  # a dead one may hold its key closed
            if outputs + dead + silent + waits > 1:
                words = ("has outputs", "is dead", "is done without output", "still waits")
                true = [word for word, so in zip(words, (outputs, dead, silent, waits), strict=True) if so]
                yield Anomaly("doubled", _name(record.place), f"in {part.name} it {' and '.join(true)}")


def _ahead(history: History, index: _Index) -> Iterator[Anomaly]:
    """Its work is committed and its offset is not: the next owner does it once more."""
    for part in history.parts:
        for record, at in index.inputs(history, part):
            if record.offset < at:
                continue
            fate = (part.name, record.place)
            if fate in index.dead or fate in index.parked or index.outputs(part, record, index.own[part.name]):
                text = f"{part.name} has committed its work, and only the offset {at}"
                yield Anomaly("doubled", _name(record.place), text)


def _reordered(history: History, index: _Index) -> Iterator[Anomaly]:
    """Of two records of one key and partition the later one's output stands first."""
    for part in history.parts:
        if not part.ordered:
            continue
        inputs = set(part.inputs)
        lanes: dict[tuple[str, int, bytes | None, str, int], dict[str, tuple[int, Seen]]] = defaultdict(dict)
        for topic in index.own[part.name]:
            for seen in index.by_topic.get(topic, ()):
                cause = index.by_id.get(seen.cause)
                if cause is None or cause.topic not in inputs or cause.id in history.redriven:
                    continue
                lane = lanes[seen.topic, seen.partition, cause.key, cause.topic, cause.partition]
                at = min(seen.offset, lane[seen.id][0]) if seen.id in lane else seen.offset  # a double is another's to find
                lane[seen.id] = (at, cause)
        for lane in lanes.values():
            for (_, first), (at, second) in pairwise(sorted(lane.values(), key=lambda each: each[0])):
                if second.offset < first.offset:
                    text = f"{part.name} wrote its output, at offset {at}, after that of {_name(first.place)}"
                    yield Anomaly("reordered", _name(second.place), text)


def _aborted(history: History, index: _Index) -> Iterator[Anomaly]:
    """Work on what never happened."""
    for handled in history.handled:
        if handled.place in index.undone_places:
            yield Anomaly(
                "aborted-seen", _name(handled.place), f"{handled.stage} was given it, and its transaction was aborted"
            )
    for cause, caused in index.by_cause.items():
        if cause in index.by_id or (history.timers is not None and cause in history.timers):
            continue
        for seen in caused:
            if cause in index.undone:
                yield Anomaly("aborted-seen", _name(seen.place), f"its cause {cause} was in a transaction that was aborted")
            elif history.timers is not None:
                yield Anomaly("aborted-seen", _name(seen.place), f"there is no record {cause} that could have caused it")


def _outside(history: History, index: _Index) -> Iterator[Anomaly]:  # noqa: ARG001  # one of the looks
    """What was done outside Kafka."""
    for effect, count in Counter(history.effects).items():
        if count > 1:
            yield Anomaly("effect-doubled", effect.key, f"{effect.kind}: {count} times")
    for balance in history.balances:
        if balance.expected != balance.found:
            yield Anomaly("conservation", balance.name, f"{balance.found:,} where {balance.expected:,} should be")


def _name(place: Place) -> str:
    return f"{place[0]}[{place[1]}]@{place[2]}"
