"""Dead letters of others: what Spring Kafka, Kafka Connect and Kafka Streams write, and Towpath elsewhere; as cases of ours.

The one rule: a case's id follows from its stage and the record's first place, so that a second import adds nothing.

Sources: Spring Kafka's KafkaHeaders (`kafka_dlt-…`, and `kafka_…` of its retry topics; numbers are big-endian bytes), Kafka
Connect's DeadLetterQueueReporter (`__connect.errors.…`, text), KIP-1034 (`__streams.errors.…`, text).
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Final

import msgspec

from streams import names
from streams.dead import CASE, Case, Decision, State, case_id, letter, original, unbury
from streams.errors import SetupError
from streams.memory.log import partition_of
from streams.ops.redrive import Desk, Entry, Step
from streams.ops.scan import Scan
from streams.process import MESSAGE_LIMIT
from streams.record import Record
from streams.stage import Stage
from streams.travel import event_id

_LATEST: Final = 253_402_300_799_000  # ms: the end of year 9999


class Foreign(msgspec.Struct, frozen=True):
    """A record that died elsewhere, with its own headers only: what wrote the letter, where the record was, what it died of."""

    kind: str
    record: Record
    error: str
    message: str
    fingerprint: str
    attempts: int = 1
    first_failed: datetime | None = None
    last_failed: datetime | None = None
    verdict: str = "imported"


class _Format(msgspec.Struct, frozen=True):
    """Whose headers these are: `prefixes` are taken off, the others name headers behind the first prefix."""

    kind: str
    prefixes: tuple[str, ...]
    topic: str
    partition: str
    offset: str
    errors: tuple[str, ...]
    messages: tuple[str, ...]
    stack: str
    timestamp: str = ""


_SPRING: Final = {
    "topic": "original-topic",
    "partition": "original-partition",
    "offset": "original-offset",
    "timestamp": "original-timestamp",
    # the outer exception is nearly always ListenerExecutionFailedException
    "errors": ("exception-cause-fqcn", "exception-fqcn", "key-exception-fqcn"),
    "messages": ("exception-message", "key-exception-message"),
    "stack": "exception-stacktrace",
}
_FORMATS: Final = (
    _Format("Spring Kafka", ("kafka_dlt-",), **_SPRING),  # type: ignore[arg-type]  # mypy does not see through **
    _Format("Spring Kafka", ("kafka_", "retry_topic-"), **_SPRING),  # type: ignore[arg-type]  # as above
    _Format(
        "Kafka Connect",
        ("__connect.errors.",),
        "topic",
        "partition",
        "offset",
        ("exception.class.name",),
        ("exception.message",),
        "exception.stacktrace",
    ),
    _Format(
        "Kafka Streams",
        ("__streams.errors.",),
        "topic",
        "partition",
        "offset",
        ("exception",),
        ("message",),
        "stacktrace",
    ),
)
_FRAME: Final = re.compile(r"^\s*at ([\w.$/<>-]+)\(", re.MULTILINE)


def recognise(found: Record) -> Foreign | None:
    """What a dead letter says; `None` for a record that is no dead letter, or does not say where it was."""
    if (record := original(found)) is not None:
        return _towpath(found, record)
    last = dict(found.headers)
    for form in _FORMATS:
        if form.prefixes[0] + form.topic in last:
            return _foreign(form, found)
    return None


def _towpath(found: Record, record: Record) -> Foreign:
    _, ours = unbury(found)
    attempts = ours.get("dead-attempts", "")
    return Foreign(
        "Towpath",
        record,
        ours.get("dead-error", "Unknown"),
        ours.get("dead-message", ""),
        ours.get("dead-fingerprint", "Unknown"),
        int(attempts) if attempts.isdecimal() and len(attempts) < 10 else 1,
        _iso(ours.get("dead-first-failed", "")),
        _iso(ours.get("dead-last-failed", "")),
        ours.get("dead-verdict", "imported"),
    )


def _foreign(form: _Format, found: Record) -> Foreign | None:
    first = {name: value or b"" for name, value in reversed(found.headers)}  # a letter that died again says where it was first
    last = {name: value or b"" for name, value in found.headers}
    head = form.prefixes[0]
    topic = first[head + form.topic].decode("utf-8", "replace")
    partition, offset = _number(first.get(head + form.partition)), _number(first.get(head + form.offset))
    if not topic or partition is None or offset is None or partition < 0 or offset < 0:
        return None
    timestamp = _number(first.get(head + form.timestamp)) if form.timestamp else None
    own = tuple(header for header in found.headers if not header[0].startswith(form.prefixes))
    record = Record(topic, partition, offset, found.key, found.value, own, found.timestamp if timestamp is None else timestamp)
    errors = [last[head + name].decode("utf-8", "replace") for name in form.errors if last.get(head + name)]
    messages = [last[head + name].decode("utf-8", "replace") for name in form.messages if last.get(head + name)]
    error, _, rest = (errors[0] if errors else "Unknown").partition(": ")  # KIP-1034 has the whole of Throwable.toString()
    frame = _top_frame(last.get(head + form.stack, b"").decode("utf-8", "replace"))
    return Foreign(
        form.kind, record, _cut(error), _cut(messages[0] if messages else rest), _cut(f"{error}@{frame or form.kind}")
    )


def _number(value: bytes | None) -> int | None:
    """Text, or a big-endian int or long. Four or eight digits would be absurd as bytes: such a partition or offset is not."""
    if value is None:
        return None
    if value.isdigit():
        return int(value) if len(value) < 19 else None
    return int.from_bytes(value, signed=True) if len(value) in (4, 8) else None


def _top_frame(stack: str) -> str:
    """The method at the top of the innermost cause of a Java stack trace, without its line."""
    frame = _FRAME.search(stack, max(stack.rfind("Caused by:"), 0))
    return frame[1] if frame else ""


def _cut(words: str) -> str:
    return words.encode("utf-8", "replace")[:MESSAGE_LIMIT].decode("utf-8", "ignore")


def _iso(words: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(words)
        return time.astimezone(UTC) if time.tzinfo else None
    except (ValueError, OverflowError):
        return None


class Import:
    """An import of one topic's dead letters into cases of `stage`.

    A record of a topic that the stage does not consume is taken for one of `stands_for`, which it does consume.
    """

    def __init__(self, desk: Desk, stage: Stage, topic: str, stands_for: str | None = None) -> None:
        """Raises `SetupError` for a topic that the stage does not consume."""
        if stands_for is not None and stands_for not in stage.topics:
            raise SetupError(
                f"stage {stage.name!r} does not consume {stands_for}", fix=f"use one of: {', '.join(stage.topics)}"
            )
        self.known = 0  # letters whose case was there before
        self._desk = desk
        self._stage = stage
        self._topic = topic
        self._stands_for = stands_for or (stage.topics[0] if len(stage.topics) == 1 else None)
        self._dlq = names.dlq(desk.topology.name, stage.name)
        self._problems: list[Step] = []

    def run(self, *, limit: int | None = None) -> Iterator[Step]:
        """Import everything up to the topic's end as it is now."""
        with Scan(self._desk.book.settings, self._desk.book.admin, [self._topic]) as scan:
            yield from self._desk.put(self._entries(scan.to_end(decided=True), limit), "imported")
        yield from self._problems

    def _entries(self, letters: Iterator[Record], limit: int | None) -> Iterator[Entry]:
        mine: set[str] = set()
        for found in letters:
            entry = self._entry(found)
            if isinstance(entry, str):
                self._problems.append(Step(found.place, self._stage.name, "failed", entry))
            elif entry.case.case_id in mine or entry.case.case_id not in self._desk.book.cases:
                if limit is not None and entry.case.case_id not in mine and len(mine) >= limit:
                    return
                mine.add(entry.case.case_id)  # a later letter of the same record says more
                yield entry
            else:
                self.known += 1

    def _entry(self, found: Record) -> Entry | str:
        """The case of a letter, with the letter as ours; or why there is none."""
        foreign = recognise(found)
        if foreign is None:
            return "no dead letter that says where its record was"
        record = self._at_home(foreign.record)
        if isinstance(record, str):
            return record
        now = self._desk.now()
        failed = foreign.last_failed or _time(found.timestamp, now)
        source = foreign.record
        why = f"{self._topic}: {foreign.kind}, {source.topic}/{source.partition}/{source.offset}"
        case = Case(
            case_id(self._stage.name, record),
            self._stage.name,
            State.OPEN,
            record.topic,
            record.partition,
            record.offset,
            event_id(record),
            record.key,
            foreign.verdict,
            foreign.error,
            foreign.message,
            foreign.fingerprint,
            foreign.attempts,
            foreign.first_failed or failed,
            failed,
            None,
            (Decision(now, self._desk.who, "imported", f"{self._desk.reason} ({why})" if self._desk.reason else why),),
        )
        return Entry(case, () if self._is_letter_of(found, case) else (letter(case, record, self._dlq),))

    def _is_letter_of(self, found: Record, case: Case) -> bool:
        """Whether a redrive of the case would find this letter, so that it needs no other."""
        theirs = unbury(found)[1].get(CASE)
        return (found.topic, found.partition, theirs) == (self._dlq, case.partition, case.case_id)

    def _at_home(self, record: Record) -> Record | str:
        """The record where the stage would have read it; or why it could not have."""
        partitions = self._desk.topology.partitions
        if record.topic in self._stage.topics:
            if record.partition >= partitions:
                return f"{record.topic} has no partition {record.partition}"
            return record
        if self._stands_for is None:
            return f"stage {self._stage.name!r} does not consume {record.topic}; say with --as which of its topics that is"
        # A negative offset is none that a record of that topic has: nothing that is parked can be in its place.
        digest = blake2b(f"{record.topic}/{record.partition}/{record.offset}".encode(), digest_size=8).digest()
        number = int.from_bytes(digest) >> 2
        partition = partition_of(record.key, partitions) if record.key else number % partitions
        return msgspec.structs.replace(record, topic=self._stands_for, partition=partition, offset=-1 - number)


def _time(millis: int, now: datetime) -> datetime:
    """When a letter was written, as far as one can believe it."""
    return min(datetime.fromtimestamp(millis / 1000, UTC), now) if 0 < millis < _LATEST else now
