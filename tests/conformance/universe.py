"""What a law of the suite can do to a broker and its sessions, and the memory's way of doing it.

The one rule: a law says nothing that only one broker understands, so that it runs unchanged on all of them.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from streams.errors import Aborted
from streams.memory.broker import MemoryProducer
from streams.memory.session import ManualClock, MemoryBroker, MemorySession
from streams.record import Headers, Output, Record
from streams.session import Claim, Inputs, Place, Polled, Session


class OpenTransaction(Protocol):
    """Some other client's transaction, with its records written and its end still to come."""

    def commit(self) -> None: ...

    def abort(self) -> None: ...


class Universe(Protocol):
    """A broker, its sessions and their fates. A group or a topic of one law is never seen by another."""

    group: str

    def topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> str:
        """Make a topic; returns its real name, which is unique."""
        ...

    def produce(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = (), partition: int | None = None
    ) -> None:
        """Write one record outside any transaction; it is there when this returns."""
        ...

    def transaction(self, outputs: Sequence[Output]) -> OpenTransaction:
        """Write records in a transaction of another client and leave it open; the broker has the records."""
        ...

    def open(self, inputs: Inputs, instance: str = "a") -> Session:
        """A session of the law's group; `instance` makes its transactional id."""
        ...

    def kill(self, session: Session) -> None:
        """The session's process dies without a word."""
        ...

    def freeze(self, session: Session) -> None:
        """The session's process stops, as by SIGSTOP or a long pause of its machine."""
        ...

    def thaw(self, session: Session) -> None:
        """It goes on, and knows of nothing."""
        ...

    def read(self, topic: str) -> list[Record]:
        """What a read_committed reader sees from beginning to end, partition by partition."""
        ...

    def committed(self) -> dict[Place, int]:
        """The committed offsets of the law's group."""
        ...

    def wait(self, step: Callable[[], object], done: Callable[[], bool]) -> None:
        """Repeat `step` until `done`; fail when the deadline has passed."""
        ...

    def close(self) -> None:
        """End everything that is left."""
        ...


class Member:
    """The reading half of an engine: keeps what a session has delivered, as its contract says it may."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.claims: dict[int, Claim] = {}
        self.hand: list[Record] = []
        self.table: dict[int, list[Record]] = {}
        self.events: list[str] = []
        self.gains: Counter[int] = Counter()

    @property
    def owned(self) -> set[int]:
        return set(self.claims)

    def poll(self, limit: int = 100, timeout: float = 0.2) -> Polled:
        polled = self.session.poll(limit, timeout)
        for partition in polled.lost:
            self.claims.pop(partition, None)
            self.table.pop(partition, None)
        self.hand = [record for record in self.hand if record.partition not in polled.lost]
        for record in polled.table:
            assert record.topic not in {r.topic for r in polled.records}
            self.table.setdefault(record.partition, []).append(record)
        for claim in polled.gained:
            assert claim.partition not in self.claims, "gained twice"
            self.claims[claim.partition] = claim
            self.gains[claim.partition] += 1
        for record in polled.records:
            assert record.partition in self.claims, "a record before its partition was gained"
        assert len(polled.records) <= limit
        self.hand += polled.records
        return polled

    def commit(self, outputs: Sequence[Output] = (), metadata: str = "") -> None:
        """Commit all that is in hand."""
        self.session.commit(outputs, self.offsets(), metadata)
        self.hand.clear()

    def offsets(self) -> dict[Place, int]:
        return {(record.topic, record.partition): record.offset + 1 for record in self.hand}

    def copy(self, topic: str) -> None:
        """One cycle of a stage that copies its input. A rebalance may abort it: then the records come again."""
        self.poll()
        try:
            if self.hand:
                self.commit([Output(topic, record.key, record.value, record.headers) for record in self.hand])
        except Aborted:
            self.hand.clear()


class _MemoryTransaction:
    def __init__(self, producer: MemoryProducer) -> None:
        self.commit = producer.commit
        self.abort = producer.abort


class MemoryUniverse:
    """The memory's flavour. A process that is dead or frozen is one that nobody polls while the clock goes on."""

    group = "group"

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.broker = MemoryBroker(self.clock, session_timeout=6.0, transaction_timeout=120.0)
        self._names = itertools.count()

    def topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> str:
        self.broker.create_topic(name, partitions, config or {})
        return name

    def produce(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = (), partition: int | None = None
    ) -> None:
        self.broker.produce(topic, key, value, headers, partition)

    def transaction(self, outputs: Sequence[Output]) -> OpenTransaction:
        producer = self.broker.producer(f"other-{next(self._names)}")
        producer.begin()
        for output in outputs:
            producer.send(output)
        return _MemoryTransaction(producer)

    def open(self, inputs: Inputs, instance: str = "a") -> Session:
        return MemorySession(self.broker, inputs, group=self.group, transactional_id=f"{self.group}.{instance}")

    def kill(self, session: Session) -> None:
        pass

    def freeze(self, session: Session) -> None:
        pass

    def thaw(self, session: Session) -> None:
        pass

    def read(self, topic: str) -> list[Record]:
        return self.broker.read(topic)

    def committed(self) -> dict[Place, int]:
        return self.broker.committed(self.group)

    def wait(self, step: Callable[[], object], done: Callable[[], bool]) -> None:
        for _ in range(200):
            step()
            if done():
                return
            self.clock.advance(0.25)
        raise AssertionError("not within 50 seconds of the clock")

    def close(self) -> None:
        pass
