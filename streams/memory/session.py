"""A session on a `MemoryBroker`: the same contract as on Kafka, without threads, sockets or waiting.

The one rule: nothing happens outside its calls. `poll` returns at once what is there and never sleeps, whatever its
`timeout`; a poll is also the member's heartbeat, so a session that is not polled while the clock passes the session timeout
is a frozen process.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, islice

import msgspec

from streams.errors import Aborted, Fenced, SetupError
from streams.memory.broker import Clock, Crashed, ManualClock, MemoryBroker, ReplyLost
from streams.memory.group import Membership, UnknownMember
from streams.memory.log import Log, Position
from streams.record import Output
from streams.session import Claim, Inputs, Place, Polled, happened, signed, unsigned

__all__ = ["Clock", "Crashed", "ManualClock", "MemoryBroker", "MemorySession"]


class _Owned(msgspec.Struct):
    """A partition that this session owns: how far its table is read, and once it is claimed, its inputs."""

    table_at: int
    table_end: int
    claimed: bool = False
    paused: bool = False
    marked: bool = False  # this session has written its commit metadata
    reading: dict[str, int] = {}  # the next offset to deliver, by topic
    committed: dict[str, Position] = {}


class MemorySession:
    """One member of a group with one transactional producer; see `Session` for the contract."""

    def __init__(self, broker: MemoryBroker, inputs: Inputs, *, group: str, transactional_id: str) -> None:
        """Fences an older session of this transactional id. Raises `SetupError` where the topics do not fit together."""
        _check_topics(broker, inputs)
        self._broker = broker
        self._inputs = inputs
        self._group_name = group
        self._id = transactional_id
        self._group = broker.group(group, inputs.lead)
        self._producer = broker.producer(transactional_id)
        self._member: Membership | None = None
        self._owned: dict[int, _Owned] = {}
        self._turn = 0
        self._tables = broker.logs(inputs.table) if inputs.table else []
        self._logs = {topic: broker.logs(topic) for topic in inputs.topics}
        self._ready: list[tuple[_Owned, str, Log]] | None = None  # what may be read; None: to be looked up again
        self._commits = 0
        self._over = ""
        self.token = f"{transactional_id}/{self._producer.life}"

    def poll(self, limit: int, timeout: float) -> Polled:  # noqa: ARG002  # memory never waits
        """What is there now: up to `limit` input records, and up to `limit` of the tables."""
        self._check_alive()
        self._broker.expire()  # the logs are read directly from here on
        polled = Polled(lost=self._rebalance())
        self._read_tables(polled, limit)
        self._claim(polled)
        self._read_inputs(polled, limit)
        return polled

    def commit(self, outputs: Sequence[Output], offsets: Mapping[Place, int], metadata: str = "") -> None:
        """One transaction, or `Aborted`, or `Fenced`."""
        for _ in self.committing(outputs, offsets, metadata):
            pass

    def committing(self, outputs: Sequence[Output], offsets: Mapping[Place, int], metadata: str = "") -> Iterator[str]:
        """`commit`, step by step, so that others may do something meanwhile, or the process stop.

        It yields `sent` when the outputs are written, `ready` when the offsets are, and `committed` when all of it has happened
        and the process does not know that yet.
        """
        self._check_alive()
        self._commits += 1
        said = signed(metadata, f"{self.token}.{self._commits}")
        positions = {place: Position(offset, said) for place, offset in offsets.items()}
        try:
            try:
                yield from self._transact(outputs, positions)
            except ReplyLost:
                self._settle(positions)
        except Aborted:
            self._rewind()
            raise
        except Fenced as error:
            self._over = str(error)
            raise
        for (topic, partition), position in positions.items():
            self._owned[partition].committed[topic] = position
            self._owned[partition].marked |= bool(metadata)

    def pause(self, partitions: Iterable[int]) -> None:
        """Deliver no more input records of these partitions."""
        self._set_paused(partitions, paused=True)

    def resume(self, partitions: Iterable[int]) -> None:
        """Take up the inputs of these partitions again."""
        self._set_paused(partitions, paused=False)

    def beat(self) -> None:
        """Stay in the group without a poll, as a process does whose handlers take long."""
        if self._member is not None:
            self._group.beat(self._member)

    def reads_table_from(self, partition: int) -> float:
        """The offset up to which it has read the table of a partition; infinite for one that it does not own."""
        owned = self._owned.get(partition)
        return owned.table_at if owned is not None else float("inf")

    def close(self) -> None:
        """Leave the group."""
        if self._member is not None:
            self._let_go(self._owned)
            self._group.leave(self._member)
        self._member = None
        self._owned.clear()
        self._over = self._over or "the session is closed"

    def _check_alive(self) -> None:
        if self._over:
            raise Fenced(self._over)

    def _set_paused(self, partitions: Iterable[int], *, paused: bool) -> None:
        for partition in partitions:
            if partition in self._owned:
                self._owned[partition].paused = paused
                self._ready = None

    def _rebalance(self) -> frozenset[int]:
        """Heartbeat; join when new or removed. Takes over what the group assigns; returns what is lost."""
        lost: frozenset[int] = frozenset()
        try:
            if self._member is None:
                raise UnknownMember
            self._member, revoked, assigned = self._group.heartbeat(self._member)
            lost = revoked
            if lost:
                self._let_go(lost)
        except UnknownMember:
            lost = frozenset(self._owned)
            self._member, _, assigned = self._group.heartbeat(self._group.join())
        for partition in lost:
            del self._owned[partition]
        for partition in sorted(assigned):
            self._owned[partition] = _Owned(table_at=0, table_end=self._tables[partition].end if self._tables else 0)
        if lost or assigned:
            self._ready = None
        return lost

    def _let_go(self, partitions: Iterable[int]) -> None:
        """Leave in good order: clear the commit metadata of partitions on their way to another owner."""
        lead = self._inputs.lead
        marked = {p: self._owned[p].committed[lead] for p in partitions if self._owned[p].marked}
        if marked and not self._over:
            with suppress(Aborted, Fenced, ReplyLost):  # then the next owner takes it for a death, and is careful for nothing
                for _ in self._transact([], {(lead, p): Position(position.offset, "") for p, position in marked.items()}):
                    pass

    def _read_tables(self, polled: Polled, limit: int) -> None:
        if not self._tables:
            return
        for partition, owned in self._owned.items():
            log = self._tables[partition]
            if owned.table_at < log.end:
                records, owned.table_at = log.read(owned.table_at, limit - len(polled.table))
                polled.table += records

    def _claim(self, polled: Polled) -> None:
        """Claim each new partition whose table is read to its end of then and whose offsets are decided."""
        for partition, owned in self._owned.items():
            if owned.claimed or owned.table_at < owned.table_end:
                continue
            found = {topic: self._broker.position(self._group_name, (topic, partition)) for topic in self._inputs.topics}
            positions = {topic: position for topic, position in found.items() if position is not None}
            if len(positions) < len(found):
                continue
            owned.claimed = True
            self._ready = None
            owned.committed = positions
            owned.reading = {topic: position.offset for topic, position in positions.items()}
            polled.gained.append(Claim(partition, dict(owned.reading), unsigned(positions[self._inputs.lead].metadata)))

    def _read_inputs(self, polled: Polled, limit: int) -> None:
        """Each input of each partition in turn; the next poll begins with another one, so that none starves."""
        if self._ready is None:
            self._ready = [
                (owned, topic, log[partition])
                for partition, owned in self._owned.items()
                for topic, log in self._logs.items()
                if owned.claimed and not owned.paused
            ]
        ready = self._ready
        self._turn += 1
        start = self._turn % len(ready) if ready else 0
        for owned, topic, log in chain(islice(ready, start, None), islice(ready, start)):
            at = owned.reading[topic]
            if at < log.end:
                records, owned.reading[topic] = log.read(at, limit - len(polled.records))
                polled.records += records

    def _transact(self, outputs: Sequence[Output], positions: Mapping[Place, Position]) -> Iterator[str]:
        strangers = [place for place in positions if not self._is_claimed(place)]
        try:
            if self._member is None or strangers:
                raise Aborted(f"partitions are not owned: {strangers or sorted(positions)}")
            self._producer.begin()
            for output in outputs:
                self._producer.send(output)
            yield "sent"
            self._producer.send_offsets(self._group, self._group_name, self._member, positions)
            yield "ready"
            self._producer.commit()
        except (Aborted, UnknownMember) as error:
            self._producer.abort()
            if isinstance(error, UnknownMember):
                raise Aborted(str(error)) from error
            raise
        yield "committed"

    def _is_claimed(self, place: Place) -> bool:
        owned = self._owned.get(place[1])
        return owned is not None and place[0] in owned.committed

    def _rewind(self) -> None:
        for owned in self._owned.values():
            owned.reading = {topic: position.offset for topic, position in owned.committed.items()}

    def _settle(self, positions: Mapping[Place, Position]) -> None:
        """After a commit without a reply: a new producer decides the transaction, and the group's offsets say how."""
        self._producer = self._broker.producer(self._id)
        before = {(topic, partition): self._owned[partition].committed[topic] for topic, partition in positions}
        now = {place: self._broker.position(self._group_name, place) for place in positions}
        done = happened(_stands(before), _stands(positions), _stands(now))
        if done:
            return
        if done is None:
            self.token = f"{self._id}/{self._producer.life}"
        raise Aborted("the transaction whose reply was lost did not happen, or is another's to worry about")


def _stands(positions: Mapping[Place, Position | None]) -> dict[Place, tuple[int, str]]:
    """Offsets and metadata; -1 where a transaction of another owner is about to move them."""
    return {place: (at.offset, at.metadata) if at is not None else (-1, "") for place, at in positions.items()}


def _check_topics(broker: MemoryBroker, inputs: Inputs) -> None:
    """Whoever owns partition p of the lead owns p of the rest: that takes the same number of partitions everywhere."""
    lead = len(broker.logs(inputs.lead))
    followed = (*inputs.others, inputs.table) if inputs.table else inputs.others
    for topic in followed:
        count = len(broker.logs(topic))
        if count != lead:
            raise SetupError(
                f"topic {topic} has {count} partitions, {inputs.lead} has {lead}",
                fix=f"create {topic} with {lead} partitions",
            )
