"""What the topics say of one key, for its story: which partitions are read, from when on, and what of them belongs to it.

The one rule: it reads as little as it can, and no group notices.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from streams import names, topics
from streams.codec import Codec
from streams.config import Settings
from streams.dead import CASE, Case, original, unbury
from streams.memory.log import partition_of
from streams.ops.scan import CLOCKS, Scan, committed
from streams.parked import Parked, parse, place
from streams.record import CAUSE, Record, event_info
from streams.registry import FolderRegistry
from streams.session import Place
from streams.stage import Stage
from streams.topology import Topology
from streams.travel import event_id


class Source(Protocol):
    """Where the topics are read: a cluster, or a broker in memory."""

    def read(self, places: Iterable[Place], since: int) -> Iterable[Record]:
        """Committed records of these partitions from a time on (ms since the Unix epoch), in order within each."""
        ...

    def committed(self, group: str) -> Mapping[Place, int]:
        """The next offset that a group reads, per partition."""
        ...


class Cluster:
    """Committed records of a cluster, up to where their partitions end when they are asked for. `records` counts them.

    Raises `SetupError` for a cluster that does not answer and for topics that do not exist.
    """

    def __init__(self, settings: Settings) -> None:
        self.records = 0
        self._settings = settings
        self._admin = topics.connect(settings)

    def read(self, places: Iterable[Place], since: int) -> Iterator[Record]:
        """See `Source`."""
        places = dict.fromkeys(places, 0)
        if not places:
            return
        with Scan(self._settings, self._admin, sorted({topic for topic, _ in places})) as scan:
            scan.seek(scan.since(dict.fromkeys(places, since)) if since else places)
            for record in scan.to_end():
                self.records += 1
                yield record

    def committed(self, group: str) -> Mapping[Place, int]:
        """See `Source`."""
        return committed(self._admin, [group])[group]


class Found:
    """What the topics say of one key.

    `records` are by their place; `letters` by stage and place, and so is in `tables` what the stage's retry topic said, in
    order, `None` for the end; `cases` are by their id.
    """

    def __init__(self, topology: Topology, key: bytes, since: int) -> None:
        self.records: dict[bytes, Record] = {}
        self.tables: dict[tuple[str, bytes], list[Parked | None]] = {}
        self.letters: dict[tuple[str, bytes], list[Record]] = {}
        self.cases: dict[str, Case] = {}
        self._topology = topology
        self._key = key
        self._since = since
        self._ids: set[str] = set()

    def read(self, source: Source) -> None:
        """The key's own topics, then those with other keys, then the stages' tables and dead letters, then cases."""
        topology, own = self._topology, partition_of(self._key, self._topology.partitions)
        field = event_info(topology.sources[0]).key
        keyed = [event_info(cls).topic for cls in topology.events if event_info(cls).key == field]
        self._events(source.read([(topic, own) for topic in keyed], self._since))
        sources = [event_info(cls).topic for cls in topology.sources]
        if not any(record.topic in sources for record in self.records.values()):  # its producer has a partitioner of its own
            rest = [(topic, number) for topic in sources for number in range(topology.partitions) if number != own]
            self._events(source.read(rest, self._since))
        self._caused(source, [info.topic for cls in topology.events if (info := event_info(cls)).key != field])
        for stage in topology.stages:
            inputs = {own} | {record.partition for record in self.records.values() if record.topic in stage.topics}
            table, dlq = names.retry(topology.name, stage.name), names.dlq(topology.name, stage.name)
            self._parked(stage, source.read([(table, number) for number in inputs], self._start))
            self._dead(stage, source.read([(dlq, number) for number in inputs], self._start))
        self._decided(source)

    @property
    def _start(self) -> int:
        first = min((record.timestamp for record in self.records.values()), default=self._since)
        return max(first - CLOCKS, 0)

    def _add(self, record: Record) -> None:
        self.records.setdefault(place(record), record)
        self._ids.add(event_id(record))

    def _events(self, records: Iterable[Record]) -> None:
        for record in records:
            if record.key == self._key:
                self._add(record)

    def _caused(self, source: Source, topics: Sequence[str]) -> None:
        """Events with other keys: read again for as long as one may have caused another of them."""
        places = [(topic, number) for topic in topics for number in range(self._topology.partitions)]
        before = -1
        while places and self._ids and len(self._ids) != before:
            before = len(self._ids)
            for record in source.read(places, self._start):
                if cause_of(record) in self._ids:
                    self._add(record)
            if len(topics) == 1:
                return

    def _parked(self, stage: Stage, records: Iterable[Record]) -> None:
        for record in records:
            _, parked = parse(record)
            where = (stage.name, record.key or b"")
            if parked is not None and (parked.record.key == self._key or parked.place in self.records):
                self._add(parked.record)
            elif where not in self.tables:  # a tombstone of what is not in the story
                continue
            self.tables.setdefault(where, []).append(parked)

    def _dead(self, stage: Stage, records: Iterable[Record]) -> None:
        for letter in records:
            record = original(letter)
            if record is not None and (record.key == self._key or place(record) in self.records):
                self._add(record)
                self.letters.setdefault((stage.name, place(record)), []).append(letter)

    def _decided(self, source: Source) -> None:
        wanted = {unbury(letter)[1].get(CASE, "") for letters in self.letters.values() for letter in letters}
        if not wanted:
            return
        topic = names.cases(self._topology.name)
        decode = Codec([Case], FolderRegistry(self._topology.schemas)).decoder(Case)
        places = {(topic, partition_of(one.encode(), self._topology.partitions)) for one in wanted}
        for record in source.read(places, self._start):
            if (record.key or b"").decode("ascii", "replace") in wanted:
                case = decode(record.value)
                self.cases[case.case_id] = case


def cause_of(record: Record) -> str | None:
    """The id of the event that an event says it was caused by."""
    value = next((value for name, value in record.headers if name == CAUSE), None)
    return value.decode("utf-8", "replace") if value else None
