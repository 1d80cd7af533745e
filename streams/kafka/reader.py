"""The reading half of a Kafka session: a member of the group, and a follower that reads what the member owns.

The one rule: a partition's records are handed out only after everything that its table held when the partition came has been.

Two consumers share a group id. The *member* subscribes to the lead topic and is only a member: its partitions are paused. The
*follower* reads: for each partition that the member owns, the same partition of every input and of the table, by `assign()`.
One queue for all topics gives one order of arrival and one place to wait.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from streams.errors import Fenced
from streams.kafka.cluster import MISSING, committed, offsets
from streams.kafka.follower import Follower
from streams.kafka.gone import Doubts
from streams.kafka.member import Member
from streams.kafka.record import record_of
from streams.kafka.stats import Statistics
from streams.kafka.uncommitted import Uncommitted
from streams.kafka.writer import COMMON
from streams.session import Claim, Inputs, Place, Polled, Stand, unsigned

_READER: Final[Mapping[str, Any]] = {
    **COMMON,
    "isolation.level": "read_committed",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",  # the runtime names every offset; one that is gone is an error, never a silent jump
    "allow.auto.create.topics": False,
    "fetch.queue.backoff.ms": 5,
    "fetch.wait.max.ms": 100,
    "queued.max.messages.kbytes": 16384,  # per partition; 65536, the default, is memory that a restoration has better use for
    "enable.partition.eof": True,
}
_CLASSIC: Final[Mapping[str, Any]] = {
    "group.protocol": "classic",
    "partition.assignment.strategy": "cooperative-sticky",
    "session.timeout.ms": 10000,
    "heartbeat.interval.ms": 1000,
}
_ASKER: Final = {"retry.backoff.max.ms": 200}  # who waits for a last owner's transaction asks again; 1000 is the default
_LOOK: Final = 5.0  # seconds between two looks at whether the consumers are what they should be
_AGAIN: Final = 0.25  # seconds until partitions are followed, or read, that could not be: each try costs two clients
_SLICE: Final = 0.1  # seconds that the follower may wait while a rebalance could be waiting for the member

LetGo = Callable[[Mapping[int, int], Any], None]
"""Told which partitions go, where each stands, and the group's metadata; None if they were lost, and are another's by now."""


class _Owned(msgspec.Struct):
    """A partition on its way to being read: `start` has the inputs' next offsets; `table_end` says what to restore."""

    start: dict[str, int]
    metadata: str
    table_end: int
    empty: bool
    since: float
    restored: bool = False
    paused: bool = False

    @property
    def read(self) -> bool:
        """Whether its inputs are to be read."""
        return self.restored and not self.paused


class Reader:
    """The two consumers of one session. `stood` has offset and metadata of each owned input after the last commit.

    `logger` is for librdkafka's own lines. `group` is the group's metadata as of the last poll.
    """

    def __init__(  # what a session is made of, put together in one place: `session.py`
        self,
        inputs: Inputs,
        properties: Mapping[str, Any],
        group: str,
        logger: logging.Logger,
        let_go: LetGo,
        statistics: Statistics,
    ) -> None:
        common = {**_READER, **properties, "group.id": group}
        classic = common.pop("group.protocol", "consumer") == "classic"
        protocol = _CLASSIC if classic else {"group.protocol": "consumer"}
        self._inputs, self._logger, self._let_go = inputs, logger, let_go
        self._topics = (*inputs.topics, *((inputs.table,) if inputs.table else ()))
        self._admin = {**COMMON, **properties}
        joins = {**protocol, **statistics.properties("member"), **common}
        reads = {"group.protocol": "classic", **statistics.properties("follower"), **common}
        self._asks = {"group.protocol": "classic", **_ASKER, **common}
        self._member = Member(self._topics, joins, self._admin, logger, statistics, (self._assigned, self._goes))
        self._follower = Follower(reads, self._admin, logger)
        self._look_at = 0.0
        self._owned: dict[int, _Owned] = {}
        self._came: dict[int, float] = {}  # assigned and not yet followed, since when
        self._follow_at = 0.0
        self._silent = ""  # why they are not followed yet
        self._gone: set[int] = set()
        self.stood: dict[Place, Stand] = {}
        self._uncommitted = Uncommitted()
        self._doubts = Doubts(self._admin, logger)
        self._doubted: set[Place] = set()  # a broker says that it does not have what is to be read there
        self.group: Any = None

    def poll(self, limit: int, timeout: float) -> Polled:
        """Serve rebalances, then read. See `Session.poll`."""
        self._member.serve()
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + _LOOK
            if self._member.look():
                self._forget({*self._owned, *self._came})
            self._follower.look()
        if self._came and now >= self._follow_at:
            self._follow()
        self.group = self._member.group()
        polled = Polled(lost=frozenset(self._gone))
        self._gone.clear()
        # Who lost a partition should hear of it at once.
        deadline = time.monotonic() + (0.0 if polled.lost else min(timeout, _SLICE))
        while True:  # an end of a partition is a message too, and nothing to wake the engine for
            messages = self._follower.consume(limit, max(deadline - time.monotonic(), 0.0))
            self._sort(messages, polled)
            if self._doubted:
                self._believe()
            if not messages or polled.records or polled.table or polled.gained:
                return polled

    def rewind(self) -> None:
        """Read every owned input again from the last commit on."""
        self._uncommitted.rewind()
        self._follower.at.update({place: offset for place, (offset, _) in self.stood.items()})
        self._follower.renew()

    def advance(self, offsets: Mapping[Place, int], said: str) -> None:
        """Take `offsets` as committed, with `said` as their metadata."""
        for place, offset in offsets.items():
            if place in self.stood:
                self.stood[place] = (offset, said)
                self._uncommitted.committed(place, offset)

    def pause(self, partitions: Iterable[int], on: bool) -> None:
        """Stop or go on delivering the inputs of `partitions`."""
        mine = [partition for partition in partitions if partition in self._owned]
        for partition in mine:
            self._owned[partition].paused = on
        if on:
            self._follower.leave_off(self._places(mine))
        else:
            self._follower.read(self._places(partition for partition in mine if self._owned[partition].read))

    def stands(self, before: Mapping[Place, Stand]) -> dict[Place, Stand] | None:
        """Where the group stands now in the places of `before`, what it stood at; None if nobody answers."""
        try:
            found = self._committed([TopicPartition(*place) for place in before])
        except KafkaException:
            return None
        return {place: (at.offset, at.metadata or "") if at.offset >= 0 else before[place] for place, at in found.items()}

    def waits(self) -> str:
        """Why not all that is assigned is read yet, "" if it is. Any thread may ask."""
        if came := sorted(self._came.copy()):
            why = f": {self._silent}" if self._silent else ""
            return f"partitions {came} wait until the last owner's transaction is decided and the coordinator answers{why}"
        restoring = sorted(partition for partition, owned in self._owned.copy().items() if not owned.restored)
        return f"partitions {restoring}: their parking table is being read" if restoring else ""

    def close(self) -> None:
        """Leave the group. The member first: its last revocation still speaks to the follower."""
        self._member.close()
        self._follower.close()

    # -- what the member says -----------------------------------------------------------------------------------------

    def _assigned(self, partitions: Collection[int]) -> None:
        self._came |= dict.fromkeys(partitions, time.monotonic())

    def _goes(self, partitions: Collection[int], group: Any) -> None:
        mine = self._owned.keys() & set(partitions)
        self._let_go({partition: self.stood[self._inputs.lead, partition][0] for partition in mine}, group)
        self._forget(set(partitions))

    def _forget(self, gone: set[int]) -> None:
        """These are another's now."""
        self._came = {partition: since for partition, since in self._came.items() if partition not in gone}
        known = gone & self._owned.keys()
        places = [(topic, partition) for partition in known for topic in self._topics]
        self._follower.leave_off(places)
        self._gone |= known
        for partition in known:
            del self._owned[partition]
        self._uncommitted.forget(places)
        for place in places:
            self.stood.pop(place, None)
            self._follower.at.pop(place, None)

    # -- what the follower reads --------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Look up where the new partitions start, and begin to read their tables. Tried again soon if it fails."""
        came = list(self._came)
        if max(came) >= self._member.partitions:  # the lead has got more than it had when we started
            self._member.check()
        tables = [TopicPartition(self._inputs.table, partition) for partition in came] if self._inputs.table else []
        earliest, latest = OffsetSpec.earliest(), OffsetSpec.latest()
        try:
            stands = self._committed([TopicPartition(*place) for place in self._places(came)])
            admin = AdminClient(self._admin, logger=self._logger)
            new = [TopicPartition(*place) for place, at in stands.items() if at.offset < 0]
            starts, ends, begins = offsets(admin, (new, earliest), (tables, latest), (tables, earliest))
        except KafkaException as error:
            if error.args[0].fatal():
                raise Fenced(error.args[0].str()) from error
            self._silent, self._follow_at = error.args[0].str(), time.monotonic() + _AGAIN
            return
        since, self._came, self._silent = self._came, {}, ""
        for place, at in stands.items():
            self.stood[place] = (at.offset if at.offset >= 0 else starts[place], at.metadata or "")
            self._follower.at[place] = self.stood[place][0]
        self._follower.at |= begins
        for partition in came:
            start = {topic: self.stood[topic, partition][0] for topic in self._inputs.topics}
            metadata = unsigned(self.stood[self._inputs.lead, partition][1])
            table = (self._inputs.table or "", partition)
            end = ends.get(table, 0)
            self._owned[partition] = _Owned(start, metadata, end, begins.get(table, 0) >= end, since[partition])
        self._follower.read(begins)  # the inputs once these are read

    def _committed(self, partitions: list[TopicPartition]) -> dict[Place, TopicPartition]:
        return committed(self._asks, self._logger, partitions)

    def _places(self, partitions: Iterable[int]) -> list[Place]:
        """The inputs' places of these partitions."""
        return [(topic, partition) for partition in partitions for topic in self._inputs.topics]

    def _sort(self, messages: list[Message], polled: Polled) -> None:
        table, owned, records, at = self._inputs.table, self._owned, polled.records, self._follower.at
        hand_out = self._uncommitted.hand_out
        for message in messages:
            topic, partition = message.topic(), message.partition()
            if message.error() is not None:
                self._no_record(message, polled)
            elif partition in owned:
                record = record_of(message)
                place = topic, partition
                at[place] = record.offset + 1
                if topic == table:
                    polled.table.append(record)
                    self._restored(partition, record.offset + 1, polled)
                else:
                    hand_out(place, record.offset)
                    records.append(record)
        for partition, each in owned.items():
            if each.empty and not each.restored:  # no end will be told of a table that a deaf follower is to read
                self._restored(partition, each.table_end, polled)

    def _no_record(self, message: Message, polled: Polled) -> None:
        """An end of a partition, or an error. Raises `Fenced` for one that neither waiting nor librdkafka mends."""
        error, place = message.error(), (message.topic(), message.partition())
        if error.code() == KafkaError._PARTITION_EOF:
            if place[1] in self._owned:
                self._follower.at[place] = message.offset()
                self._uncommitted.end(place, message.offset())
            if place[0] == self._inputs.table:
                self._restored(place[1], message.offset(), polled)
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            self._doubted.add(place)
        elif error.fatal() or error.code() in MISSING:
            raise Fenced(error.str())

    def _believe(self) -> None:
        """Find out whether what is to be read is gone, and read on if it is not. Raises `SetupError`."""
        doubted = {place: self._follower.at[place] for place in self._doubted if place[1] in self._owned}
        self._doubted.clear()
        if doubted:
            self._doubts.judge(doubted)
            time.sleep(_AGAIN)
            self._follower.renew()

    def _restored(self, partition: int, reached: int, polled: Polled) -> None:
        owned = self._owned.get(partition)
        if owned is None or owned.restored or reached < owned.table_end:
            return
        owned.restored = True
        if owned.read:
            self._follower.read(self._places([partition]))
        waited = time.monotonic() - owned.since
        polled.gained.append(Claim(partition, owned.start, owned.metadata, waited))
