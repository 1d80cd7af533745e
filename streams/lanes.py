"""Lanes: parked records, the order of each key, and which of them may go now.

The one rule: while a key has a parked record, its later records queue behind it; what is on the table and what is in memory
are the same after every transaction.

Pure: the time comes in, writes go out as `Output`s. One `Cycle` collects a transaction's changes apart from the lanes; it is
applied when the transaction has happened and forgotten when it has not.
"""

import heapq
import math
from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from streams.parked import Parked, parse, tombstone
from streams.record import Output, Record

LaneKey = bytes | str
"""A key's lane (bytes), or the lane of a single record that keeps nobody waiting (its place, str)."""
Lane = tuple[int, LaneKey]
HELD: Final = math.inf
"""The due time of a record that waits for its case's decision."""

_Order = Literal["key", "none"]


_Due = tuple[float, int, int, LaneKey]
"""Due time, the head's seq, a number that settles ties, and the lane."""


class _Partition(msgspec.Struct):
    """What is parked in one partition. While it is restored only `places` is kept; lanes are made at its end."""

    places: dict[bytes, Parked] = {}
    lanes: dict[LaneKey, list[Parked]] = {}
    heads: list[_Due] = []  # a heap; entries that no longer hold are passed over
    pushed: int = 0
    size: int = 0
    next_seq: int = 0
    restored: bool = False


class Lanes:
    """All parked records of one stage's owned partitions.

    `table` is the parking table, `token` the session's, by which own writes are known when they are read again. What is of
    the topics `timers`, the stage's own for later, has a lane of its own.
    """

    def __init__(self, table: str, token: str, order: _Order = "key", timers: frozenset[str] = frozenset()) -> None:
        self.table = table
        self.token = token
        self._order = order
        self._timers = timers
        self._partitions: dict[int, _Partition] = {}

    def load(self, record: Record) -> None:
        """Take one record of the table: from its restoration, or later from its tail, where operators write."""
        partition = self._partitions.setdefault(record.partition, _Partition())
        writer, parked = parse(record)
        if partition.restored and writer == self.token:
            return  # mirrored when its transaction was applied
        place = record.key or b""
        if partition.restored:
            self._drop(partition, place)
            if parked is not None:
                self._insert(partition, parked)
        else:
            if (old := partition.places.pop(place, None)) is not None:
                partition.size -= old.size
            if parked is not None:
                partition.places[place] = parked
                partition.size += parked.size

    def gained(self, number: int) -> None:
        """The table of this partition is read to where it ended: form its lanes."""
        partition = self._partitions.setdefault(number, _Partition())
        partition.restored = True
        for parked in sorted(partition.places.values(), key=_rank):
            partition.lanes.setdefault(self._key(parked), []).append(parked)
            partition.next_seq = max(partition.next_seq, parked.seq + 1)
        for key, lane in partition.lanes.items():
            _push(partition, key, lane[0])

    def lost(self, number: int) -> None:
        """The partition is another's now."""
        self._partitions.pop(number, None)

    def next_due(self) -> float:
        """When the next lane's head is due, in seconds since the Unix epoch; infinite if nothing waits for a time."""
        soonest = HELD
        for partition in self._partitions.values():
            if partition.heads and partition.restored and (first := _first(partition)) and first[0] < soonest:
                soonest = first[0]
        return soonest

    def parked(self) -> dict[int, tuple[int, int]]:
        """Per partition: how many records are parked, and their bytes in memory."""
        return {number: (len(p.places), p.size) for number, p in self._partitions.items()}

    def __iter__(self) -> Iterator[Parked]:
        return (parked for p in self._partitions.values() for parked in p.places.values())

    def lane(self, record: Record) -> Lane:
        """The lane of a record."""
        if self._order == "none" or record.key is None or record.topic in self._timers:
            return record.partition, record.place
        return record.partition, record.key

    def cycle(self, now: float) -> "Cycle":
        """A transaction's changes, to be collected."""
        return Cycle(self, now)

    def _key(self, parked: Parked) -> LaneKey:
        return self.lane(parked.record)[1]

    def _insert(self, partition: _Partition, parked: Parked) -> None:
        key = self._key(parked)
        lane = partition.lanes.setdefault(key, [])
        index = next((i for i, other in enumerate(lane) if _rank(other) > _rank(parked)), len(lane))
        lane.insert(index, parked)
        partition.places[parked.place] = parked
        partition.size += parked.size
        if index == 0:
            _push(partition, key, parked)

    def _drop(self, partition: _Partition, place: bytes) -> None:
        parked = partition.places.pop(place, None)
        if parked is None:
            return
        key = self._key(parked)
        lane = partition.lanes[key]
        lane.remove(parked)
        partition.size -= parked.size
        if lane:
            _push(partition, key, lane[0])
        else:
            del partition.lanes[key]


class _View:
    """One lane as this cycle sees it: `dropped` of its records are through, `head` replaces the next, `added` follow."""

    __slots__ = ("added", "dropped", "head", "lane")

    def __init__(self, lane: list[Parked]) -> None:
        self.lane = lane
        self.dropped = 0
        self.head: Parked | None = None
        self.added: list[Parked] = []

    def first(self) -> Parked | None:
        if self.head is not None:
            return self.head
        index = self.dropped
        if index < len(self.lane):
            return self.lane[index]
        index -= len(self.lane)
        return self.added[index] if index < len(self.added) else None


class Cycle:
    """The changes of one transaction. `writes` are for the table; `partitions` are those that have any.

    `entered` and `left`: how many records came to the lanes and went.
    """

    def __init__(self, lanes: Lanes, now: float) -> None:
        self._lanes = lanes
        self._views: dict[Lane, _View] = {}
        self._seqs: dict[int, int] = {}
        self.now = now
        self.writes: list[Output] = []
        self.partitions: set[int] = set()
        self.entered = self.left = 0

    def lane(self, record: Record) -> Lane:
        """The lane of a record."""
        return self._lanes.lane(record)

    def due(self, limit: int) -> list[Lane]:
        """Up to `limit` lanes whose head may go now, the longest waiting first."""
        found: list[tuple[float, Lane]] = []
        for number, partition in self._lanes._partitions.items():
            if not partition.restored:
                continue
            taken: dict[LaneKey, float] = {}  # a lane may have two entries of one head
            while len(taken) < limit and (first := _first(partition)) and first[0] <= self.now:
                taken[first[3]] = heapq.heappop(partition.heads)[0]
            for key, due in taken.items():
                found.append((due, (number, key)))
                _push(partition, key, partition.lanes[key][0])
        found.sort(key=lambda each: each[0])
        return [lane for _, lane in found[:limit]]

    def blocks(self, record: Record) -> bool:
        """Whether a new record must queue behind a parked one."""
        lanes = self._lanes._partitions[record.partition].lanes
        if not lanes and not self._views:
            return False
        lane = self._lanes.lane(record)
        if lane in self._views:
            return self._views[lane].first() is not None
        return lane[1] in lanes

    def head(self, lane: Lane) -> Parked | None:
        """The head of a lane if it may go now."""
        head = self._view(lane).first()
        return head if head is not None and head.due <= self.now else None

    def park(self, parked: Parked) -> None:
        """Put a new record at the end of its lane, whatever its `seq` says."""
        number, _ = lane = self._lanes.lane(parked.record)
        seq = self._seqs.get(number, self._lanes._partitions[number].next_seq)
        self._seqs[number] = seq + 1
        parked = parked.kept(seq)
        self._view(lane).added.append(parked)
        self.entered += 1
        self._write(number, parked)

    def again(self, lane: Lane, parked: Parked) -> None:
        """Keep the head of a lane parked, as `parked` says now."""
        parked = self._view(lane).head = parked.kept(parked.seq)
        self._write(lane[0], parked)

    def complete(self, lane: Lane) -> None:
        """The head of a lane is through: the next may follow."""
        view = self._view(lane)
        parked = view.first()
        if parked is None:
            raise ValueError(f"lane {lane} is empty")
        view.head = None
        view.dropped += 1
        self.left += 1
        self.partitions.add(lane[0])
        self.writes.append(tombstone(parked, self._lanes.table, self._lanes.token))

    def apply(self) -> None:
        """The transaction has happened: the lanes are as this cycle saw them."""
        for number, seq in self._seqs.items():
            self._lanes._partitions[number].next_seq = seq
        for (number, key), view in self._views.items():
            _apply(self._lanes._partitions[number], key, view)

    def _view(self, lane: Lane) -> _View:
        view = self._views.get(lane)
        if view is None:
            lanes = self._lanes._partitions[lane[0]].lanes
            view = self._views[lane] = _View(lanes.get(lane[1], []))
        return view

    def _write(self, number: int, parked: Parked) -> None:
        self.partitions.add(number)
        self.writes.append(parked.output(self._lanes.table, self._lanes.token))


def _apply(partition: _Partition, key: LaneKey, view: _View) -> None:
    lane = view.lane
    moved = view.dropped > 0 or view.head is not None or not lane  # another head, or another time for it
    gone = min(view.dropped, len(lane))
    for parked in lane[:gone]:
        del partition.places[parked.place]
        partition.size -= parked.size
    del lane[:gone]
    for parked in view.added[view.dropped - gone :]:
        lane.append(parked)
        partition.places[parked.place] = parked
        partition.size += parked.size
    if view.head is not None:
        partition.size += view.head.size - lane[0].size
        partition.places[view.head.place] = view.head
        lane[0] = view.head
    if not lane:
        partition.lanes.pop(key, None)
    elif moved:
        partition.lanes[key] = lane
        _push(partition, key, lane[0])


def _rank(parked: Parked) -> tuple[int, int, int]:
    """Order within a lane. Redriven records, which are older than all that queue there, have seq -1."""
    return parked.seq, parked.record.timestamp, parked.record.offset


def _push(partition: _Partition, key: LaneKey, head: Parked) -> None:
    if head.due < HELD:
        partition.pushed += 1
        heapq.heappush(partition.heads, (head.due, head.seq, partition.pushed, key))


def _first(partition: _Partition) -> _Due | None:
    """The entry of the next due head; stale entries are thrown away on the way."""
    heads = partition.heads
    while heads:
        due, seq, _, key = heads[0]
        lane = partition.lanes.get(key)
        if lane and lane[0].due == due and lane[0].seq == seq:
            return heads[0]
        heapq.heappop(heads)
    return None
