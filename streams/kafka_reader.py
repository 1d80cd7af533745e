"""The reading half of a Kafka session: a member of the group, and a follower that reads what the member owns.

The one rule: a partition's records are handed out only after everything that its table held when the partition came has been.

Two consumers share a group id. The *member* subscribes to the lead topic and is only a member: its partitions are paused. The
*follower* reads: for each partition that the member owns, the same partition of every input and of the table, by `assign()`.
One queue for all topics gives one order of arrival and one place to wait.

What must not be read now is taken out of the follower's assignment, and put in again where it left off. librdkafka's pause and
resume are not used for that: next to a change of the assignment it may drop a resume without a word, and then the partition is
silent for ever (its issues 2190 and 5591).
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from streams.errors import Fenced, SetupError
from streams.kafka_cluster import ANSWER, MISSING, check_topics, committed, offsets
from streams.kafka_deaf import Belonging, Hearing
from streams.kafka_record import record_of
from streams.kafka_stats import Statistics
from streams.kafka_writer import COMMON
from streams.session import Claim, Inputs, Place, Polled, unsigned

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
    "partition.assignment.strategy": "cooperative-sticky",
    "session.timeout.ms": 10000,
    "heartbeat.interval.ms": 1000,
}
_LOOK: Final = 5.0  # seconds between two looks at whether the follower has gone deaf
_SLICE: Final = 0.1  # seconds that the follower may wait while a rebalance could be waiting for the member

LetGo = Callable[[Mapping[int, int], Any], None]
"""Told, while they are still owned, which partitions go in good order, where each stands, and the group's metadata."""


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
        """Whether its inputs are in the follower's assignment."""
        return self.restored and not self.paused


class Reader:
    """The two consumers of one session."""

    def __init__(  # what a session is made of, put together in one place: `kafka.py`
        self,
        inputs: Inputs,
        properties: Mapping[str, Any],
        group: str,
        log: logging.Logger,
        let_go: LetGo,
        statistics: Statistics,
    ) -> None:
        common = {**_READER, **properties, "group.id": group}
        classic = common.pop("group.protocol", "consumer") == "classic"
        protocol = {"group.protocol": "classic", **_CLASSIC} if classic else {"group.protocol": "consumer"}
        self._inputs, self._let_go = inputs, let_go
        self._followed = (*inputs.topics, *((inputs.table,) if inputs.table else ()))
        self._joins = {**protocol, **statistics.properties("member"), **common}
        self._member = Consumer(self._joins, logger=log)
        self._asks = {"group.protocol": "classic", **common}
        self._reads = {**self._asks, **statistics.properties("follower")}
        self._follower = Consumer(self._reads, logger=log)
        self._statistics = statistics
        self._admin, self._group = {**COMMON, **properties}, group
        self._log = log
        self._hearing = Hearing(self._admin, log)
        self._belonging = Belonging(self._admin, log)
        self._look_at = 0.0
        self._idle = False  # the follower had no more to give, at least once since the last look
        self._owned: dict[int, _Owned] = {}
        self._came: dict[int, float] = {}  # assigned and not yet followed, since when
        self._silent = ""  # why they are not followed yet
        self._gone: set[int] = set()
        self._subscribed = False
        self._partitions = 0  # of the lead, when the topics were looked at last
        self.next: dict[Place, int] = {}  # where each followed input goes on after the last commit
        self._said: dict[Place, str] = {}  # the metadata of that commit
        # The offset behind what has been handed out of each. Not asked of the follower: one whose fetching hangs says where it
        # was before it was sent back.
        self._at: dict[Place, int] = {}
        self.group: Any = None  # the group's metadata, as of the last poll

    def poll(self, limit: int, timeout: float) -> Polled:
        """Serve rebalances, then read. See `Session.poll`."""
        if not self._subscribed:
            self._partitions = check_topics(self._member, self._followed)
            self._member.subscribe(
                [self._inputs.lead], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
            )
            self._subscribed = True
        self._serve_member()
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + _LOOK
            self._look()
        polled = Polled(lost=frozenset(self._gone))
        self._gone.clear()
        if self._came:
            self._follow()
        self.group = self._member.consumer_group_metadata()
        if polled.lost:
            timeout = 0.0  # who lost a partition should hear of it at once
        if not self._owned:
            self._follower.poll(min(timeout, _SLICE))
            return polled
        deadline = time.monotonic() + min(timeout, _SLICE)
        while True:  # an end of a partition is a message too, and nothing to wake the engine for
            messages = self._follower.consume(1, max(deadline - time.monotonic(), 0.0))
            if messages and limit > 1:
                messages += self._follower.consume(limit - 1, 0)
            self._sort(messages, polled)
            self._idle = self._idle or len(messages) < limit
            if not messages or polled.records or polled.table or polled.gained:
                return polled

    def rewind(self) -> None:
        """Read every owned input again from the last commit on."""
        reading = [partition for partition, owned in self._owned.items() if owned.read]
        self._leave_off(reading)
        self._at.update(self.next)
        self._go_on(reading)

    def advance(self, offsets: Mapping[Place, int], said: str) -> None:
        """Take `offsets` as committed, with `said` as their metadata."""
        for place, offset in offsets.items():
            if place in self.next:
                self.next[place], self._said[place] = offset, said

    def pause(self, partitions: Iterable[int], on: bool) -> None:
        """Stop or go on delivering the inputs of `partitions`."""
        for partition in partitions:
            owned = self._owned.get(partition)
            if owned is not None and owned.paused != on:
                if owned.read:
                    self._leave_off([partition])
                owned.paused = on
                if owned.read:
                    self._go_on([partition])

    def stood(self, place: Place) -> tuple[int, str]:
        """Offset and metadata that the group had there after the last commit that is known."""
        return self.next[place], self._said[place]

    def stands(self, before: Mapping[Place, tuple[int, str]]) -> dict[Place, tuple[int, str]] | None:
        """The same as the group has it now, for the places of `before`; None if nobody answers."""
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
        """Leave the group."""
        # A revocation within librdkafka's close() may find no protocol to answer by, and hang (its issue 4527): leave first.
        with suppress(KafkaException):
            self._member.unsubscribe()
            deadline = time.monotonic() + ANSWER
            while self._member.assignment() and time.monotonic() < deadline:
                self._member.poll(_SLICE)
        for consumer in (self._member, self._follower):  # the member's last revocation still speaks to the follower
            with suppress(KafkaException):
                consumer.close()

    # -- the member ---------------------------------------------------------------------------------------------------

    def _assigned(self, member: Any, partitions: list[TopicPartition]) -> None:
        if member is not self._member:
            return
        member.incremental_assign(partitions)
        member.pause(partitions)
        self._came |= {p.partition: time.monotonic() for p in partitions}

    def _revoked(self, member: Any, partitions: list[TopicPartition]) -> None:
        if member is not self._member:  # replaced, and on its way out
            member.unassign()
            return
        mine = {p.partition for p in partitions} & self._owned.keys()
        self._let_go({p: self.next[self._inputs.lead, p] for p in mine}, member.consumer_group_metadata())
        self._lost(member, partitions)

    def _lost(self, member: Any, partitions: list[TopicPartition]) -> None:
        self._forget({p.partition for p in partitions})
        try:
            member.incremental_unassign(partitions)
        except KafkaException:  # the protocol was reset meanwhile, and without an answer librdkafka waits for ever
            member.unassign()

    def _forget(self, gone: set[int]) -> None:
        """These are another's now."""
        self._came = {p: since for p, since in self._came.items() if p not in gone}
        known = gone & self._owned.keys()
        self._leave_off([partition for partition in known if self._owned[partition].read])
        if known and self._inputs.table:
            self._follower.incremental_unassign([TopicPartition(self._inputs.table, partition) for partition in known])
        self._gone |= known
        for partition in known:
            del self._owned[partition]
            for topic in self._followed:
                self.next.pop((topic, partition), None)
                self._said.pop((topic, partition), None)
                self._at.pop((topic, partition), None)

    def _serve_member(self) -> None:
        while (message := self._member.poll(0)) is not None:
            error = message.error()
            if error is None:  # fetched before the pause took hold, or the pause was lost; the follower reads it
                self._member.pause([TopicPartition(message.topic(), message.partition())])
                continue
            if error.fatal():
                raise Fenced(f"the member is beyond repair: {error.str()}")
            if error.code() in MISSING:
                raise SetupError(error.str(), where=self._inputs.lead, fix="create the topics: towpath topics apply MODULE")

    # -- the follower -------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Look up where the new partitions start, and begin to read their tables. Tried again at the next poll if it fails."""
        came = list(self._came)
        if max(came) >= self._partitions:  # the lead has got more than it had when we started
            self._partitions = check_topics(self._member, self._followed)
        wanted = [TopicPartition(topic, p) for p in came for topic in self._inputs.topics]
        try:
            stands = self._committed(wanted)
            admin = AdminClient(self._admin, logger=self._log)
            earliest = offsets(admin, wanted, OffsetSpec.earliest())
            tables = [TopicPartition(self._inputs.table, p) for p in came] if self._inputs.table else []
            ends, begins = offsets(admin, tables, OffsetSpec.latest()), offsets(admin, tables, OffsetSpec.earliest())
        except KafkaException as error:
            if error.args[0].fatal():
                raise Fenced(error.args[0].str()) from error
            self._silent = error.args[0].str()
            return
        since, self._came, self._silent = self._came, {}, ""
        for partition in came:
            start, metadata = {}, ""
            for topic in self._inputs.topics:
                at = stands[topic, partition]
                start[topic] = at.offset if at.offset >= 0 else earliest[topic, partition]
                self._said[topic, partition] = at.metadata or ""
                if topic == self._inputs.lead:
                    metadata = unsigned(self._said[topic, partition])
            place = (self._inputs.table or "", partition)
            end = ends.get(place, 0)
            self._owned[partition] = _Owned(start, metadata, end, begins.get(place, 0) >= end, since[partition])
            self.next.update({(topic, partition): offset for topic, offset in start.items()})
            self._at.update({(topic, partition): offset for topic, offset in start.items()})
            if self._inputs.table:  # and the inputs once that is read
                self._at[place] = begins[place]
                self._read([place])

    def _committed(self, partitions: list[TopicPartition]) -> dict[Place, TopicPartition]:
        """Where the group stands. Raises `KafkaException`.

        A client that has lived through a broker's death may ask the old coordinator, or with the leader's old epoch, for ever:
        this one is new. Offsets have to be stable: that waits out an undecided transaction of the last owner.
        """
        asking = Consumer(self._asks, logger=self._log)
        try:
            return committed(asking, partitions)
        finally:
            _close(asking)

    def _go_on(self, partitions: Iterable[int]) -> None:
        """Read the inputs of `partitions` from where they left off."""
        self._read([(topic, partition) for partition in partitions for topic in self._inputs.topics])

    def _read(self, places: Sequence[Place]) -> None:
        if places:
            self._follower.incremental_assign([TopicPartition(*place, self._at[place]) for place in places])

    def _leave_off(self, partitions: Iterable[int]) -> None:
        """Stop reading the inputs of `partitions`; what has been fetched of them is dropped."""
        places = [TopicPartition(topic, partition) for partition in partitions for topic in self._inputs.topics]
        if places:
            self._follower.incremental_unassign(places)

    def _look(self) -> None:
        """Replace what does not come to itself: the member, or the follower, so that nothing is read twice or left out."""
        astray = self._statistics.astray
        if self._belonging.look(bool(astray)):
            self._log.warning("the member of group %s does not find back to it: %s; a new one joins", self._group, astray)
            old, self._member = self._member, Consumer(self._joins, logger=self._log)
            self._forget({*self._owned, *self._came})
            self._subscribed, self._statistics.astray = False, ""
            _close(old)
        table = [(self._inputs.table, p) for p in self._owned] if self._inputs.table else []
        places = [*table, *((topic, p) for p, owned in self._owned.items() if owned.read for topic in self._inputs.topics)]
        deaf = self._hearing.look({place: self._at[place] for place in places}, idle=self._idle)
        self._idle = False
        if deaf:
            names = ", ".join(f"{topic}[{partition}]" for topic, partition in sorted(deaf))
            self._log.warning("nothing comes of %s, though there is more: a new consumer goes on", names)
            old, self._follower = self._follower, Consumer(self._reads, logger=self._log)
            self._read(places)
            _close(old)

    def _sort(self, messages: list[Message], polled: Polled) -> None:
        table, owned, records, at = self._inputs.table, self._owned, polled.records, self._at
        for message in messages:
            error = message.error()
            topic, partition = message.topic(), message.partition()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    if partition in owned:
                        at[topic, partition] = message.offset()
                    if topic == table:
                        self._restored(partition, message.offset(), polled)
                else:
                    _fail(error, topic, partition)
            elif partition in owned:
                record = record_of(message)
                at[topic, partition] = record.offset + 1
                if topic == table:
                    polled.table.append(record)
                    self._restored(partition, record.offset + 1, polled)
                else:
                    records.append(record)
        for partition, each in owned.items():
            if each.empty and not each.restored:  # no end will be told of a table that a deaf follower is to read
                self._restored(partition, each.table_end, polled)

    def _restored(self, partition: int, reached: int, polled: Polled) -> None:
        owned = self._owned.get(partition)
        if owned is None or owned.restored or reached < owned.table_end:
            return
        owned.restored = True
        if owned.read:
            self._go_on([partition])
        waited = time.monotonic() - owned.since
        polled.gained.append(Claim(partition, owned.start, owned.metadata, waited))


def _close(consumer: Consumer) -> None:
    """Let go of a consumer that was replaced; it may wait for who is away."""
    threading.Thread(target=consumer.close, name="towpath-close", daemon=True).start()


def _fail(error: KafkaError, topic: str | None, partition: int | None) -> None:
    """Raise for what waiting does not mend; anything else librdkafka mends itself."""
    if error.code() == KafkaError._AUTO_OFFSET_RESET:
        raise SetupError(
            f"records that were not read yet are gone: {error.str()}",
            where=f"{topic}[{partition}]",
            fix="retention removed them: reset the group's offset on purpose, after a look at what is lost",
        )
    if error.fatal() or error.code() in MISSING:
        raise Fenced(error.str())
