"""How far behind a topology's stages are, in records and in seconds.

The one rule: it asks the cluster, not the workers, so that it sees those that are dead as well.

An end is the last stable offset: what lies behind an open transaction cannot be read by anybody yet, and is told apart.
"""

import time
from collections.abc import Mapping
from typing import Final, Self

import msgspec
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streams import names, topics
from streams.config import Settings
from streams.errors import SetupError
from streams.ops.scan import Scan, committed
from streams.session import Place
from streams.topology import Topology

_LOOK: Final = 30.0  # seconds for the first unread records to come


class Lag(msgspec.Struct, frozen=True):
    """One stage on one partition. `records` are committed and not read by it, `seconds` is the age of the first of them.

    `records` is counted in offsets, a few of which are markers of transactions. `undecided` counts offsets behind the first
    open transaction: more and more of them mean one that hangs. `members` is how many consumers the group has: 0 with a lag
    means that nobody is at work. `at` is the next offset that the stage reads; `None` if it has never committed.
    """

    stage: str
    topic: str
    partition: int
    at: int | None
    end: int
    records: int
    seconds: float
    undecided: int
    members: int


class Looks:
    """Looks at a topology's groups, again and again. As a context manager it is closed at the end.

    Raises `SetupError` if the cluster does not answer, or lacks a topic.
    """

    def __init__(self, settings: Settings, topology: Topology) -> None:
        self.admin = topics.connect(settings)
        self._stages = {stage: names.group(topology.name, stage.name) for stage in topology.stages}
        self._scan = Scan(settings, self.admin, {topic for stage in topology.stages for topic in stage.topics})
        self._places = list(self._scan.next)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._scan.__exit__()

    def look(self) -> list[Lag]:
        """Each input of each stage, in the topology's order."""
        groups, places, scan = list(self._stages.values()), self._places, self._scan
        offsets = committed(self.admin, groups)  # before the ends: a lag is never below 0
        members = _members(self.admin, groups)
        stable, high = scan.ends(places, decided=False), scan.ends(places, decided=True)
        earliest = scan.since(dict.fromkeys(places, 0))
        rows = [
            (stage, place, offsets[group].get(place))
            for stage, group in self._stages.items()
            for place in places
            if place[0] in stage.topics
        ]
        first = {(place, _next(at, earliest[place])) for _, place, at in rows if _next(at, earliest[place]) < stable[place]}
        since = _times(scan, first, stable)
        now = time.time()
        found = []
        for stage, place, at in rows:
            start = _next(at, earliest[place])
            written = since.get((place, start))
            behind = stable[place] - start if written is not None else 0  # no record follows: markers do
            age = max(now - written / 1000, 0.0) if written is not None else 0.0
            undecided = max(high[place] - stable[place], 0)
            there = members[self._stages[stage]]
            found.append(Lag(stage.name, *place, at, stable[place], behind, round(age, 3), undecided, there))
        return found


def measure(settings: Settings, topology: Topology) -> list[Lag]:
    """One look: each input of each stage, in the topology's order. Raises `SetupError` if the cluster does not answer."""
    with Looks(settings, topology) as looks:
        return looks.look()


def _next(at: int | None, earliest: int) -> int:
    return earliest if at is None else max(at, earliest)


def _times(scan: Scan, first: set[tuple[Place, int]], ends: Mapping[Place, int]) -> dict[tuple[Place, int], int]:
    """When the record at or behind each of these offsets was written, in ms since the epoch; none where no record follows."""
    times: dict[tuple[Place, int], int] = {}
    left = set(first)
    while left:
        now = dict(left)  # one offset a partition at a time: several stages may read one topic
        left -= set(now.items())
        scan.seek(now)
        patience = time.monotonic() + _LOOK
        while now:
            for record in scan.poll(0.2):
                place = (record.topic, record.partition)
                if (offset := now.pop(place, None)) is not None:
                    times[place, offset] = record.timestamp
            now = {place: offset for place, offset in now.items() if scan.next[place] < ends[place]}
            if now and time.monotonic() > patience:
                raise SetupError(f"{min(now)[0]} cannot be read", fix="see whether all its partitions have a leader")
    return times


def _members(admin: AdminClient, groups: list[str]) -> dict[str, int]:
    """How many members each group has; none for one that has never been."""
    try:
        asked = admin.describe_consumer_groups(groups, request_timeout=10)
    except KafkaException as error:
        raise SetupError(f"the cluster does not answer: {error.args[0].str()}", fix="try again") from None
    counts = {}
    for group, future in asked.items():
        try:
            counts[group] = len(future.result().members)
        except KafkaException:
            counts[group] = 0
    return counts
