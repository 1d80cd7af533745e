"""Dead letters, and the case that each of them opens.

The one rule: whoever may write a case follows from its state. An open one is the operators', a redriven one the stage's.

A dead letter is the record as it was, key, value and headers byte for byte, with `dead-*` headers behind its own; it keeps
the partition of its source. A case (`schemas/streams/Case`, compacted by `case_id`) holds what is known and decided of it.
"""

import enum
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Final

import msgspec

from streams import names
from streams.codec import Codec
from streams.errors import DecodeError
from streams.parked import Parked, number, place
from streams.process import Failure, Verdict
from streams.record import Header, Headers, Output, Record, event
from streams.travel import event_id

FIRST: Final = "dead-origin"
"""The first of our headers in a dead letter; the record's own are before it."""
TIMESTAMP: Final = "dead-timestamp"
"""The record's own time, milliseconds since the Unix epoch: a dead letter's is that of its death."""
CASE: Final = "dead-case"
LAST_FAILED: Final = "dead-last-failed"
"""With `dead-case` it tells the letters of one case apart: a redriven record may die again."""
_MOST: Final = 2**63 - 1  # attempts: what a case holds


class State(enum.StrEnum):
    """Where a case stands. `open` again after a redrive that failed."""

    OPEN = "open"
    REDRIVEN = "redriven"
    RESOLVED = "resolved"
    DISMISSED = "dismissed"


class Decision(msgspec.Struct, frozen=True):
    """One step of a case: when, who, what (`died`, `redriven`, `edited`, `dismissed`, `resolved`, `imported`), and why."""

    at: datetime
    who: str
    what: str
    why: str


@event("streams.cases", key="case_id")
class Case(msgspec.Struct, frozen=True):
    """A dead record and what became of it. `topic`, `partition` and `offset` say where the stage read it."""

    case_id: str
    stage: str
    state: State
    topic: str
    partition: int
    offset: int
    event_id: str
    key: bytes | None
    verdict: str
    error: str
    message: str
    fingerprint: str
    attempts: int
    first_failed_at: datetime
    last_failed_at: datetime
    edited_value: bytes | None
    decisions: tuple[Decision, ...]


class DeadLetters:
    """What one stage writes when a record dies, and when a redriven one does not die again."""

    def __init__(self, topology: str, stage: str, codec: Codec, *, who: str) -> None:
        self._stage = stage
        self._who = who
        self._dlq = names.dlq(topology, stage)
        self._cases = names.cases(topology)
        self._encode = codec.encoder(Case)
        self._decode = codec.decoder(Case)

    def bury(self, parked: Parked, verdict: Verdict, now: float) -> tuple[Output, Output, bytes]:
        """The dead letter and the case of a record whose last attempt failed; and the case encoded."""
        record, failure = parked.record, parked.failure or Failure("Unknown", "", "Unknown")
        key = case_id(self._stage, record)
        died = Decision(_time(now), self._who, "died", f"{failure.kind}: {failure.message}")
        old = self._case_of(parked.case)
        if old is not None:
            key, first, before = old.case_id, old.first_failed_at, old.decisions
            edited, attempts = old.edited_value, min(old.attempts + parked.attempt, _MOST)
        else:
            first, before, edited, attempts = _time(parked.first or now), (), None, parked.attempt
        case = Case(
            key,
            self._stage,
            State.OPEN,
            record.topic,
            record.partition,
            record.offset,
            event_id(record),
            record.key,
            verdict.value,
            failure.kind,
            failure.message,
            failure.fingerprint,
            attempts,
            first,
            _time(now),
            edited,
            (*before, died),
        )
        encoded = self._encode(case)
        return letter(case, record, self._dlq), self._case_output(key, encoded), encoded

    def resolve(self, case: bytes, now: float) -> Output | None:
        """The case of a redriven record that has succeeded; None for bytes that are no case."""
        old = self._case_of(case)
        if old is None:
            return None
        resolved = Decision(_time(now), self._who, "resolved", "the redriven record succeeded")
        new = msgspec.structs.replace(old, state=State.RESOLVED, decisions=(*old.decisions, resolved))
        return self._case_output(old.case_id, self._encode(new))

    def _case_of(self, case: bytes) -> Case | None:
        """What a parked record says of its case: whoever can write to the table can say anything."""
        try:
            return self._decode(case) if case else None
        except DecodeError:
            return None

    def _case_output(self, key: str, encoded: bytes) -> Output:
        return Output(self._cases, key.encode(), encoded)


def letter(case: Case, record: Record, dlq: str) -> Output:
    """The dead letter of a record: itself, with what its case says of its death behind its own headers."""
    return Output(dlq, record.key, record.value, (*record.headers, *_headers(case, record.timestamp)), record.partition)


def unbury(letter: Record) -> tuple[Headers, dict[str, str]]:
    """A dead letter's own headers, and ours with their values; ours are empty for what is no dead letter of a stage."""
    own = next((index for index in range(len(letter.headers) - 1, -1, -1) if letter.headers[index][0] == FIRST), None)
    if own is None:
        return letter.headers, {}
    return letter.headers[:own], {name: (value or b"").decode("utf-8", "replace") for name, value in letter.headers[own:]}


def original(letter: Record) -> Record | None:
    """The record that a dead letter was made of, byte for byte; `None` for what is no dead letter of a stage."""
    headers, ours = unbury(letter)
    try:
        topic, partition, offset = ours[FIRST].rsplit("/", 2)
        timestamp = number(ours.get(TIMESTAMP, str(letter.timestamp)))
        return Record(topic, number(partition), number(offset), letter.key, letter.value, headers, timestamp)
    except (KeyError, ValueError):
        return None


def case_id(stage: str, record: Record) -> str:
    """The case of a record that died at a stage: 32 hex digits, the same whoever asks."""
    return blake2b(stage.encode() + b"/" + place(record), digest_size=16).hexdigest()


def _headers(case: Case, timestamp: int) -> tuple[Header, ...]:
    """Readable in any Kafka tool: text, times in ISO 8601."""
    texts = {
        FIRST: f"{case.topic}/{case.partition}/{case.offset}",
        TIMESTAMP: str(timestamp),
        "dead-stage": case.stage,
        CASE: case.case_id,
        "dead-verdict": case.verdict,
        "dead-attempts": str(case.attempts),
        "dead-first-failed": case.first_failed_at.isoformat(timespec="milliseconds"),
        LAST_FAILED: case.last_failed_at.isoformat(timespec="milliseconds"),
        "dead-error": case.error,
        "dead-message": case.message,
        "dead-fingerprint": case.fingerprint,
    }
    return tuple((name, text.encode("utf-8", "replace")) for name, text in texts.items())


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds * 1000) / 1000, UTC)
