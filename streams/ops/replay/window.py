"""Which records of a stage are replayed: a range by offsets or times, up to what the stage has committed.

The one rule: the range is fixed once, at the start; no group is joined and none is disturbed.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec
from confluent_kafka.admin import AdminClient

from streams import names, topics
from streams.config import Settings
from streams.dead import State
from streams.errors import SetupError
from streams.ops.cases import Book, moment
from streams.ops.scan import CLOCKS, Scan, committed
from streams.parked import place
from streams.record import Record, event_info
from streams.session import Place
from streams.stage import Stage
from streams.topology import Topology

_PLACE: Final = re.compile(r"(?P<topic>[\w.-]+):(?P<partition>\d+):(?P<offset>\d+)")
_FOREVER: Final = 2**62


class Window(msgspec.Struct, frozen=True):
    """Offsets `[first, end)` of each place of a stage's inputs; `since` is the first record's time (ms), less a margin."""

    first: Mapping[Place, int]
    end: Mapping[Place, int]
    since: int

    @property
    def size(self) -> int:
        """How many offsets, at most so many records."""
        return sum(max(self.end[place] - first, 0) for place, first in self.first.items())

    def holds(self, record: Record) -> bool:
        """Whether a record is within."""
        place = (record.topic, record.partition)
        return self.first.get(place, _FOREVER) <= record.offset < self.end.get(place, 0)


class Inputs:
    """What one stage has read, and what has come of it."""

    def __init__(self, settings: Settings, topology: Topology, stage: Stage) -> None:
        """Raises `SetupError` for a cluster that does not answer or lacks a topic."""
        self.settings = settings
        self.topology = topology
        self.stage = stage
        self.admin: AdminClient = topics.connect(settings)
        self._now = datetime.now(UTC)
        self._committed: dict[Place, int] | None = None

    def window(self, first: Sequence[str] = (), end: Sequence[str] = ()) -> Window:
        """The range between two times or places; by default all that there is, up to what the stage has committed.

        A place is `topic:partition:offset`, and several may be given: a partition that none names is left out, if any does.
        Raises `SetupError` for what is neither, and for a place that is no input of the stage.
        """
        done = self._offsets_of_group()
        with Scan(self.settings, self.admin, self.stage.topics) as scan:
            everywhere = dict(scan.next)
            start = self._offsets(scan, first, dict.fromkeys(everywhere, 0))
            stop = self._offsets(scan, end, {place: done.get(place, 0) for place in everywhere})
            chosen = start.keys() & stop.keys()
            ends = {place: min(stop[place], done.get(place, 0)) for place in chosen}
            starts = {place: start[place] for place in chosen}
            since = 0 if not any(starts.values()) else self._since(scan, starts, ends)
        return Window(starts, ends, since)

    def everything(self) -> Window:
        """All that there is at this moment, whether or not the stage has come so far."""
        with Scan(self.settings, self.admin, self.stage.topics) as scan:
            return Window(dict(scan.next), scan.ends(scan.next, decided=False), 0)

    def read(self, window: Window, key: bytes | None = None) -> Iterator[Record]:
        """The records of a window; of one key, if that is given."""
        with Scan(self.settings, self.admin, self.stage.topics) as scan:
            scan.seek({place: first for place, first in window.first.items() if first < window.end[place]})
            for record in scan.to(window.end):
                if window.holds(record) and (key is None or record.key == key):
                    yield record

    def outputs(self, window: Window) -> Iterator[Record]:
        """What is on the stage's output topics since then: what the window's records led to is among it."""
        found = [event_info(cls).topic for cls in self.stage.emits]
        if not found:
            return
        with Scan(self.settings, self.admin, found) as scan:
            if window.since:
                scan.seek(scan.since(dict.fromkeys(scan.next, window.since)))
            yield from scan.to_end(decided=True)

    def ahead(self, record: Record) -> bool:
        """Whether the stage has not come so far yet, as of the first time that this is asked."""
        if self._committed is None:
            self._committed = self._offsets_of_group()
        return record.offset >= self._committed.get((record.topic, record.partition), 0)

    def _offsets_of_group(self) -> dict[Place, int]:
        group = names.group(self.topology.name, self.stage.name)
        return committed(self.admin, [group])[group]

    def waiting(self) -> dict[bytes, str]:
        """Places of records that were not handled to their end: parked ones, and dead ones whose case is not resolved."""
        found: dict[bytes, str] = {}
        with Book(self.settings, self.topology) as book:
            book.read(decided=True)
            for case in book.cases.values():
                if case.stage == self.stage.name and case.state is not State.RESOLVED:
                    found[f"{case.topic}/{case.partition}/{case.offset}".encode()] = f"dead, {case.state.value}"
        with Scan(self.settings, self.admin, [names.retry(self.topology.name, self.stage.name)]) as scan:
            parked: set[bytes] = set()
            for record in scan.to_end(decided=True):
                (parked.discard if record.value is None else parked.add)(record.key or b"")
        return found | dict.fromkeys(parked, "parked")

    def horizon(self) -> dict[str, int]:
        """For each output topic of which something was removed: from when on (ms) nothing can have been, by its retention."""
        found = [event_info(cls).topic for cls in self.stage.emits]
        if not found:
            return {}
        kept = topics.keeps(self.admin, found)
        with Scan(self.settings, self.admin, found) as scan:
            cut = {topic for (topic, _), low in scan.begins(scan.next).items() if low > 0}
        return {topic: int((self._now.timestamp() - kept[topic]) * 1000) for topic in cut if kept[topic] < math.inf}

    def _offsets(self, scan: Scan, given: Sequence[str], default: dict[Place, int]) -> dict[Place, int]:
        if not given:
            return default
        found: dict[Place, int] = {}
        for text in given:
            if (match := _PLACE.fullmatch(text)) is None:
                if len(given) > 1:
                    raise SetupError(f"{text!r} is no place", fix="write topic:partition:offset, or one time")
                millis = int(moment(text, self._now).timestamp() * 1000)
                return scan.since(dict.fromkeys(default, millis))
            where = (match["topic"], int(match["partition"]))
            if where not in default:
                raise SetupError(
                    f"{where[0]}[{where[1]}] is no input of stage {self.stage.name!r}",
                    fix=f"its inputs are {', '.join(self.stage.topics)}",
                )
            found[where] = int(match["offset"])
        return found

    def _since(self, scan: Scan, first: Mapping[Place, int], end: Mapping[Place, int]) -> int:
        """The time of the earliest of the partitions' first records; 0 where that is not to be had."""
        times: dict[Place, int] = {}
        for where, start in first.items():
            if start < end[where]:
                scan.seek({where: start})
                record = next(iter(scan.to(end)), None)
                times[where] = record.timestamp if record is not None else _FOREVER
        return max(min(times.values(), default=0) - CLOCKS, 0)


class Waits(msgspec.Struct, frozen=True):
    """Where a record waits; empty if it does not."""

    places: Mapping[bytes, str]

    def __call__(self, record: Record) -> str:
        """`parked`, `dead` with its case's state, or nothing."""
        return self.places.get(place(record), "")
