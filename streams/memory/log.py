"""One partition in memory, and the transactions that write to it.

The one rule: a committed reader never passes the last stable offset, so it sees a transaction whole, or never.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from functools import lru_cache
from operator import attrgetter
from typing import Literal, TypeAlias

import msgspec

from streams.record import Record

Isolation: TypeAlias = Literal["read_committed", "read_uncommitted"]
_offset = attrgetter("offset")


class Position(msgspec.Struct, frozen=True):
    """What a group has committed for one partition of a topic: the next offset to read, and a word with it."""

    offset: int
    metadata: str = ""


class Transaction:
    """One transaction: where it wrote, and the offsets that it commits for a group. `started` is in seconds of the clock."""

    def __init__(self, started: float) -> None:
        self.started = started
        self.state: Literal["open", "committed", "aborted"] = "open"
        self.logs: dict[Log, None] = {}
        self.offsets: dict[tuple[str, str, int], Position] = {}

    def end(self, state: Literal["committed", "aborted"]) -> None:
        """Decide it: one control marker in each log that it wrote to."""
        self.state = state
        for log in self.logs:
            log.mark(self)


class _Entry(msgspec.Struct):
    offset: int
    record: Record
    transaction: Transaction | None


class Log:
    """The records of one partition. A control marker is an offset without an entry, so offsets have gaps as in Kafka."""

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.end = 0
        self._entries: list[_Entry] = []
        self._open: dict[Transaction, int] = {}
        self._old_tombstones: set[int] = set()

    @property
    def stable(self) -> int:
        """The last stable offset: everything below it is decided."""
        return min(self._open.values()) if self._open else self.end

    def append(self, record: Record, transaction: Transaction | None = None) -> None:
        """Write a record at the end. Its own offset must be `end`."""
        if transaction is not None and self not in transaction.logs:
            self._open[transaction] = self.end
            transaction.logs[self] = None
        self._entries.append(_Entry(self.end, record, transaction))
        self.end += 1

    def mark(self, transaction: Transaction) -> None:
        """Write the control marker of a decided transaction."""
        del self._open[transaction]
        self.end += 1

    def read(self, start: int, limit: int, isolation: Isolation = "read_committed") -> tuple[list[Record], int]:
        """Up to `limit` records from offset `start` on, and the offset at which to go on."""
        committed = isolation == "read_committed"
        stop = self.stable if committed else self.end
        found: list[Record] = []
        first = bisect_left(self._entries, start, key=_offset) if start else 0
        for entry in self._entries[first:]:
            if entry.offset >= stop:
                break
            if committed and not _is_committed(entry):
                continue
            if len(found) == limit:
                return found, entry.offset
            found.append(entry.record)
        return found, max(start, stop)

    def history(self) -> Iterator[tuple[Record, bool]]:
        """All records that are still there, and whether each is committed: what a checker looks at."""
        return ((entry.record, _is_committed(entry)) for entry in self._entries)

    def compact(self, *, drop_tombstones: bool) -> None:
        """Keep the last decided record of each key. A tombstone goes in its second pass, or at once by the flag."""
        stable = self.stable
        last = {e.record.key: e.offset for e in self._entries if e.offset < stable and _is_committed(e)}

        def keeps(entry: _Entry) -> bool:
            if entry.offset >= stable:
                return True
            if not _is_committed(entry) or last[entry.record.key] != entry.offset:
                return False
            return entry.record.value is not None or not (drop_tombstones or entry.offset in self._old_tombstones)

        self._entries = [entry for entry in self._entries if keeps(entry)]
        self._old_tombstones = {e.offset for e in self._entries if e.offset < stable and e.record.value is None}


def _is_committed(entry: _Entry) -> bool:
    return entry.transaction is None or entry.transaction.state == "committed"


@lru_cache(maxsize=4096)
def murmur2(key: bytes) -> int:
    """The 32-bit hash of Kafka's Java client and of librdkafka's `murmur2_random` (org.apache.kafka.common.utils.Utils)."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = 0x9747B28C ^ len(key)
    whole = len(key) & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(key[at : at + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = h * m & mask ^ k
    if whole < len(key):
        h = (h ^ int.from_bytes(key[whole:], "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key, the same in every Kafka client that hashes with murmur2."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def unstable(transactions: Mapping[str, Transaction], group: str, topic: str, partition: int) -> bool:
    """Whether an undecided transaction holds an offset of this group there: a fetch of offsets has to wait for it."""
    return any((group, topic, partition) in transaction.offsets for transaction in transactions.values())
