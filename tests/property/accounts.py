"""The accounts of a story on the machine: what was sent, what is to come of it, and whether that is what came.

The one rule: what is to come follows from the event's own words, never from what the machine did.
"""

from collections import Counter, defaultdict
from typing import Any

import msgspec

from streams.dead import Case, State, original, unbury
from streams.lanes import Lanes
from streams.parked import Parked
from streams.process import Failure
from streams.record import Record
from tests.support.moves import BACKOFF, MENDED, Answered, move


class Sent(msgspec.Struct):
    """An input: what it was, and how often operators have redriven it. `words` is None for bytes that are no event."""

    record: Record
    words: tuple[str, ...] | None
    redrives: int = 0
    mended: bool = False
    dismissed: bool = False


def check_ending(sent: Sent, letters: list[Record], cases: dict[str, Case], *, deaths: int) -> int:
    """It ended once: dead, with a letter for each time that it died, or with as many outputs as are returned."""
    done = len(letters) == sent.redrives
    assert done or len(letters) == sent.redrives + 1
    fate = end_of(sent.words)
    verdicts = [unbury(letter)[1]["dead-verdict"] for letter in letters]
    for verdict in verdicts:
        assert verdict == fate or (verdict == "crashed" and deaths >= 3)
    count = 0
    if done:
        assert isinstance(fate, int) or sent.mended or "crashed" in verdicts
        count = MENDED if sent.mended else fate if isinstance(fate, int) else 1
    for letter in letters:
        assert original(letter) == sent.record
    if letters:
        case = cases.pop(unbury(letters[0])[1]["dead-case"])
        state = State.RESOLVED if done else State.DISMISSED if sent.dismissed else State.OPEN
        assert case.state is state
        told = Counter(decision.what for decision in case.decisions)
        assert told == +Counter(died=len(letters), redriven=sent.redrives, resolved=int(done), dismissed=sent.dismissed)
        assert case.attempts <= BACKOFF.attempts * len(letters)
    return count


def check_order(outputs: list[Answered], sent: dict[int, Sent], passed: set[int]) -> None:
    """Per key and input in the order of the input; those that were passed may come late."""
    seen: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for answer in outputs:
        if answer.number not in passed:
            seen[sent[answer.number].record.topic, answer.who].append((answer.number, answer.index))
    for sequence in seen.values():
        assert sequence == sorted(sequence)


def lanes(of: Lanes, partitions: list[int]) -> dict[Any, list[Parked]]:
    """Each lane in its order; of a failure, what the table keeps."""
    return {
        (number, key): [msgspec.structs.replace(each, failure=kept(each.failure)) for each in lane]
        for number in partitions
        for key, lane in of._partitions[number].lanes.items()
    }


def kept(failure: Failure | None) -> Failure | None:
    return failure and Failure(failure.kind, failure.message, failure.fingerprint)


def is_of(case: Case, record: Record) -> bool:
    return (case.topic, case.partition, case.offset) == (record.topic, record.partition, record.offset)


def end_of(words: tuple[str, ...] | None) -> int | str:
    """How many outputs an event comes to in the end, or the verdict that it dies of."""
    if words is None:
        return "undecodable"
    for attempt in range(1, BACKOFF.attempts + 1):
        word, _, detail = move(words, attempt).partition(":")
        if word == "done":
            return int(detail)
        if word in ("reject", "die"):
            return "crashed" if word == "die" else word
    return "retry"
