"""A parked record, and its form on the parking table.

The one rule: key, value and headers come out byte for byte as they went in.

The table's key is the record's place on its source, which no other record has (an `id` header may be repeated by a careless
producer, and must not make one record overwrite another). Our headers come first and `parked-by` is the last of them: what
follows are the record's own, whatever their names are.
"""

import math
from typing import Final

import msgspec

from streams.process import Failure
from streams.record import CAUSE, ID, Header, Output, Record
from streams.varint import MAX_MILLIS

BY: Final = "parked-by"
"""Who wrote it: a session's token, or an operator's tool."""
_OVERHEAD: Final = 700  # bytes of Python objects around a parked record's own bytes, measured
_LONG: Final = range(-(2**63), 2**63)
_TIMES: Final = range(MAX_MILLIS + 1)
_ATTEMPTS: Final = range(2**31)


class Parked(msgspec.Struct, frozen=True):
    """A record that waits, with what its next attempt has to know.

    `seq` is its position in its lane, `attempt` how many attempts are spent, `due` (seconds since the Unix epoch) when the
    next may be made once it is the head: 0 for one that only queues, infinite for one that is held. `first` is when it
    first failed. `case` is the encoded case of a record that was redriven or is held.
    """

    record: Record
    seq: int
    attempt: int = 0
    due: float = 0.0
    first: float = 0.0
    failure: Failure | None = None
    case: bytes = b""

    @property
    def place(self) -> bytes:
        """The record's key in the table."""
        return place(self.record)

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        record = self.record
        headers = sum(len(name) + len(value or b"") + 120 for name, value in record.headers)
        return _OVERHEAD + len(record.key or b"") + len(record.value or b"") + headers + len(self.case)

    def kept(self, seq: int) -> "Parked":
        """This record at `seq`, as the table gives it back: times in whole milliseconds, up, so that none goes too early."""
        return msgspec.structs.replace(self, seq=seq, due=_whole(self.due), first=_whole(self.first))

    def output(self, table: str, by: str) -> Output:
        """The record for the table."""
        record = self.record
        ours: list[Header] = [
            ("parked-seq", b"%d" % self.seq),
            ("parked-attempt", b"%d" % self.attempt),
            ("parked-due", b"held" if self.due == float("inf") else _millis(self.due)),
            ("parked-timestamp", b"%d" % record.timestamp),
        ]
        if record.key is not None:
            ours.append(("parked-key", record.key))
        if record.value is None:
            ours.append(("parked-null", b""))  # a null value would be a tombstone
        if self.failure is not None:
            ours += (
                ("parked-first", _millis(self.first)),
                ("parked-error", f"{self.failure.kind}: {self.failure.message}".encode("utf-8", "replace")),
                ("parked-fingerprint", self.failure.fingerprint.encode("utf-8", "replace")),
            )
        if self.case:
            ours.append(("parked-case", self.case))
        ours.append((BY, by.encode()))
        return Output(table, self.place, record.value or b"", (*ours, *record.headers), record.partition)


def place(record: Record) -> bytes:
    """`topic/partition/offset`: a record's key in the table."""
    return f"{record.topic}/{record.partition}/{record.offset}".encode()


def timer_of(output: Output, partition: int, now: float) -> tuple[Record, float]:
    """What a stage sends itself as a record to be parked, and when it is due. Its offset is below 0 and made from its id."""
    (_, event_id), (_, cause), (_, due), *through = output.headers
    offset = -1 - int((event_id or b"0")[:15], 16)
    headers = ((ID, event_id), (CAUSE, cause), *through)
    return Record(output.topic, partition, offset, output.key, output.value, headers, int(now * 1000)), int(due or 0) / 1000


def tombstone(parked: Parked, table: str, by: str) -> Output:
    """The end of a parked record."""
    return Output(table, parked.place, None, ((BY, by.encode()),), parked.record.partition)


def parse(record: Record) -> tuple[str, Parked | None]:
    """Who wrote a record of the table, and what it holds: `None` for a tombstone or for what nobody of us wrote."""
    ours: dict[str, bytes] = {}
    for name, value in record.headers:
        ours[name] = value or b""
        if name == BY:
            break
    own = len(ours)
    by = ours.get(BY, b"").decode("ascii", "replace")
    if record.value is None or BY not in ours:
        return by, None
    try:
        topic, partition, offset = (record.key or b"").decode().rsplit("/", 2)
        if int(partition) != record.partition:  # its owner would have it in two places
            return by, None
        source = Record(
            topic,
            int(partition),
            number(offset, _LONG),
            ours.get("parked-key"),
            None if "parked-null" in ours else record.value,
            record.headers[own:],
            number(ours["parked-timestamp"], _LONG),
        )
        due = ours["parked-due"]
        return by, Parked(
            source,
            number(ours["parked-seq"], _LONG),
            number(ours["parked-attempt"], _ATTEMPTS),
            float("inf") if due == b"held" else number(due, _TIMES) / 1000,
            number(ours.get("parked-first", b"0"), _TIMES) / 1000,
            _failure(ours),
            ours.get("parked-case", b""),
        )
    except (ValueError, KeyError):
        return by, None


def number(text: str | bytes, allowed: range = _LONG) -> int:
    """A number in a header, which anybody may have written. Raises `ValueError` for one that no event could hold."""
    found = int(text)
    if found not in allowed:
        raise ValueError(f"{found} is none that we write")
    return found


def _whole(seconds: float) -> float:
    # 1.001 * 1000 is not 1001 in floating point: what is that close to a millisecond is one.
    return seconds if math.isinf(seconds) else math.ceil(seconds * 1000 - 0.01) / 1000


def _millis(seconds: float) -> bytes:
    return b"%d" % round(seconds * 1000)


def _failure(ours: dict[str, bytes]) -> Failure | None:
    if "parked-error" not in ours:
        return None
    kind, _, message = ours["parked-error"].decode("utf-8", "replace").partition(": ")
    return Failure(kind, message, ours.get("parked-fingerprint", b"").decode("utf-8", "replace"))
