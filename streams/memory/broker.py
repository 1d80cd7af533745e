"""A broker in memory: topics, transactions, committed offsets and groups, by a clock that its owner moves.

The one rule: it does what Kafka does as far as a session can tell, and proves it by the same conformance suite.

Single-threaded and deterministic: nothing happens between two calls, nothing waits, and a timeout is found by the next
call after the clock has passed it.
"""

from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Final, Literal, Protocol

from streams.errors import Aborted, Fenced, SetupError
from streams.memory.group import Group, Membership
from streams.memory.log import Isolation, Log, Position, Transaction, partition_of, unstable
from streams.record import Headers, Output, Record
from streams.session import Place

_NO_CONFIG: Final[Mapping[str, str]] = {}
_MAX_MESSAGE: Final = 1_048_588  # bytes: a topic's default


class Clock(Protocol):
    """Seconds that only grow."""

    def now(self) -> float:
        """The time, in seconds since the Unix epoch."""
        ...


class ManualClock:
    """A clock that stands still until it is told to move."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = start

    def now(self) -> float:
        """The time, in seconds since the Unix epoch."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass."""
        if seconds < 0:
            raise ValueError("time does not go back")
        self._now += seconds


class ReplyLost(Exception):
    """A commit whose outcome the client does not learn."""


class Crashed(BaseException):  # no Exception: like a SIGKILL, it is nothing that code may survive
    """The process of a session dies here. Whoever simulates the death catches it and drops the session."""


Fault = Literal["abort", "lost-before", "lost-after", "crash-before", "crash-after"]


class MemoryBroker:
    """Topics, groups and transactions. `session_timeout` and `transaction_timeout` are in seconds of the clock."""

    def __init__(self, clock: Clock, *, session_timeout: float = 45.0, transaction_timeout: float = 15.0) -> None:
        self.clock = clock
        self._session_timeout = session_timeout
        self._transaction_timeout = transaction_timeout
        self._topics: dict[str, list[Log]] = {}
        self._limits: dict[str, tuple[bool, int]] = {}  # whether a topic is compacted, and what a record may have in bytes
        self._groups: dict[tuple[str, str], Group] = {}
        self._offsets: dict[tuple[str, str, int], Position] = {}
        self._producers: dict[str, MemoryProducer] = {}
        self._open: dict[str, Transaction] = {}
        self._looked = -1.0  # when it was last seen that none of them has been open for too long
        self._faults: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._lives = 0
        self._keyless = 0

    # What tests and plain clients use.

    def create_topic(self, name: str, partitions: int = 1, config: Mapping[str, str] = _NO_CONFIG) -> None:
        """A new topic. Raises `SetupError` if it exists.

        `config` is Kafka's; of it `cleanup.policy` and `max.message.bytes` have an effect.
        """
        if name in self._topics:
            raise SetupError(f"topic {name} exists already")
        self._topics[name] = [Log(name, partition) for partition in range(partitions)]
        compacted = "compact" in config.get("cleanup.policy", "delete")
        self._limits[name] = (compacted, int(config.get("max.message.bytes", _MAX_MESSAGE)))

    def produce(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = (), partition: int | None = None
    ) -> Record:
        """Write one record outside any transaction; returns it with its place."""
        return self._append(Output(topic, key, value, headers, partition), None)

    def read(self, topic: str, isolation: Isolation = "read_committed") -> list[Record]:
        """Everything that a reader from the beginning sees now, partition by partition."""
        return [record for log in self.logs(topic) for record in log.read(0, log.end, isolation)[0]]

    def end_offsets(self, topic: str) -> dict[int, int]:
        """The high watermark of each partition: the offset that the next record or marker gets."""
        return {log.partition: log.end for log in self.logs(topic)}

    def committed(self, group: str) -> dict[Place, int]:
        """The committed offsets of a group: the next offset to read."""
        self.expire()
        return {(topic, partition): at.offset for (name, topic, partition), at in self._offsets.items() if name == group}

    def compact(self, topic: str, *, drop_tombstones: bool = False) -> None:
        """Run the log cleaner to the last stable offset. Offsets never move. A tombstone survives one pass."""
        if not self._limits.get(topic, (False, 0))[0]:
            raise SetupError(f"topic {topic} is not compacted", fix="create it with cleanup.policy=compact")
        for log in self.logs(topic):
            log.compact(drop_tombstones=drop_tombstones)

    def producer(self, transactional_id: str) -> "MemoryProducer":
        """A transactional producer. Fences the last one of this id and aborts what it has open."""
        self.expire()
        if transactional_id in self._open:
            self._end(transactional_id, "aborted")
        self._lives += 1
        producer = MemoryProducer(self, transactional_id, self._lives)
        self._producers[transactional_id] = producer
        return producer

    # Faults, each for the next commit of a transactional id that has none ahead of it.

    def abort_next(self, transactional_id: str) -> None:
        """The coordinator aborts the next commit."""
        self._faults[transactional_id].append("abort")

    def lose_reply_next(self, transactional_id: str, *, happened: bool = True) -> None:
        """The reply to the next commit is lost, after it has `happened` or without it."""
        self._faults[transactional_id].append("lost-after" if happened else "lost-before")

    def crash_next(self, transactional_id: str, *, committed: bool = False) -> None:
        """The process dies (`Crashed`) in its next commit: with the transaction open, or just after it was `committed`."""
        self._faults[transactional_id].append("crash-after" if committed else "crash-before")

    def forget_faults(self) -> None:
        """None of the faults that are still to come does."""
        self._faults.clear()

    # What a session and a producer use.

    def logs(self, topic: str) -> list[Log]:
        """The partitions of a topic as of now. Raises `SetupError` for a topic that does not exist."""
        self.expire()
        logs = self._topics.get(topic)
        if logs is None:
            raise SetupError(f"topic {topic} does not exist", fix="create it first")
        return logs

    def group(self, name: str, lead: str) -> Group:
        """The members of a group that have subscribed to `lead`."""
        if (name, lead) not in self._groups:
            self._groups[name, lead] = Group(len(self.logs(lead)), self.clock.now, self._session_timeout)
        return self._groups[name, lead]

    def position(self, group: str, place: Place) -> Position | None:
        """What the group has committed there: `Position(0)` at first, None while a transaction about it is undecided."""
        self.expire()
        if unstable(self._open, group, *place):
            return None
        return self._offsets.get((group, *place), Position(0))

    def _append(self, output: Output, transaction: Transaction | None) -> Record:
        logs = self.logs(output.topic)
        compacted, limit = self._limits[output.topic]
        if compacted and output.key is None:
            raise Aborted(f"{output.topic} is compacted and takes no record without a key")
        if _size(output) > limit:
            raise Aborted(f"a record is larger than {output.topic} takes (max.message.bytes)")
        partition = output.partition
        if partition is None and output.key is None:
            self._keyless += 1
            partition = self._keyless % len(logs)
        elif partition is None:
            partition = partition_of(output.key or b"", len(logs))
        elif not 0 <= partition < len(logs):
            raise SetupError(f"topic {output.topic} has no partition {partition}", fix=f"it has {len(logs)}")
        log = logs[partition]
        now = int(self.clock.now() * 1000)
        record = Record(output.topic, partition, log.end, output.key, output.value, tuple(output.headers), now)
        log.append(record, transaction)
        return record

    def _end(self, transactional_id: str, state: Literal["committed", "aborted"]) -> None:
        transaction = self._open.pop(transactional_id)
        transaction.end(state)
        if state == "committed":
            self._offsets.update(transaction.offsets)

    def expire(self) -> None:
        """Abort what has been open for too long; its producer is fenced by it. Every look at the broker begins with it."""
        now = self.clock.now()
        if not self._open or now == self._looked:
            return
        self._looked = now
        limit = now - self._transaction_timeout
        for transactional_id in [name for name, transaction in self._open.items() if transaction.started <= limit]:
            self._end(transactional_id, "aborted")
            del self._producers[transactional_id]


class MemoryProducer:
    """A transactional producer. Every call raises `Fenced` once a newer one has its id or its transaction has timed out."""

    def __init__(self, broker: MemoryBroker, transactional_id: str, life: int) -> None:
        self.life = life
        self._broker = broker
        self._id = transactional_id

    def begin(self) -> None:
        """Open a transaction."""
        self._check()
        self._broker._open[self._id] = Transaction(self._broker.clock.now())

    def send(self, output: Output) -> None:
        """Write a record in the transaction. Raises `Aborted` for one that the broker does not take."""
        transaction = self._transaction()
        try:
            self._broker._append(output, transaction)
        except SetupError as error:
            raise Aborted(str(error)) from error

    def send_offsets(self, group: Group, name: str, member: Membership, positions: Mapping[Place, Position]) -> None:
        """Commit positions of the group `name` with the transaction. Raises `UnknownMember` for a member that is out of it."""
        transaction = self._transaction()
        group.check(member)
        transaction.offsets.update({(name, *place): position for place, position in positions.items()})

    def commit(self) -> None:
        """Commit. Raises `Aborted` when the coordinator aborts it, `ReplyLost` and `Crashed` when a test wants it."""
        self._transaction()
        faults = self._broker._faults[self._id]
        fault = faults.popleft() if faults else None
        match fault:
            case "abort":
                self._broker._end(self._id, "aborted")
                raise Aborted("the coordinator has aborted the transaction")
            case "lost-before":
                raise ReplyLost
            case "crash-before":
                raise Crashed
        self._broker._end(self._id, "committed")
        match fault:
            case "lost-after":
                raise ReplyLost
            case "crash-after":
                raise Crashed

    def abort(self) -> None:
        """Abort what is open, if anything is."""
        self._check()
        if self._id in self._broker._open:
            self._broker._end(self._id, "aborted")

    def _transaction(self) -> Transaction:
        self._check()
        return self._broker._open[self._id]

    def _check(self) -> None:
        self._broker.expire()
        if self._broker._producers.get(self._id) is not self:
            raise Fenced(f"a newer producer has the transactional id {self._id}, or its transaction has timed out")


def _size(output: Output) -> int:
    """Bytes of a record without its frame, which is some seventy more on the wire."""
    size = len(output.key or b"") + len(output.value or b"")
    for name, value in output.headers:
        size += (len(name) if name.isascii() else len(name.encode())) + (len(value) if value else 0)
    return size
