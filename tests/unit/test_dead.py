"""Dead letters and cases: the record as it was, and everything that is known of its death."""

from datetime import UTC, datetime

import pytest

from streams.codec import Codec
from streams.dead import Case, DeadLetters, State, case_id, original, unbury
from streams.parked import Parked
from streams.process import Failure, Verdict
from streams.record import Headers, Output, Record
from streams.registry import FolderRegistry

CODEC = Codec([Case], FolderRegistry())
DEAD = DeadLetters("orders", "payment", CODEC, who="payment/a")
FAILURE = Failure("Reject", "no such card", "Reject@payment.py:capture")
HEADERS: Headers = (("id", b"e1"), ("x", b"\xff\xfe"), ("x", None), ("dead-origin", b"mine/1/2"), ("dead-case", b"theirs"))


def record(key: bytes | None = b"k", value: bytes | None = b"v", headers: Headers = HEADERS) -> Record:
    return Record("in.topic", 3, 17, key, value, headers, 1234)


def bury(parked: Parked, now: float = 1000.5) -> tuple[Record, Case, bytes]:
    letter, case, encoded = DEAD.bury(parked, Verdict.REJECT, now)
    assert case.value == encoded
    assert case.topic == "orders.cases"
    return as_read(letter), CODEC.decoder(Case)(case.value), encoded


def as_read(output: Output) -> Record:
    return Record(output.topic, output.partition or 0, 0, output.key, output.value, output.headers, 999)


@pytest.mark.parametrize(("key", "value"), [(b"k", b"v"), (None, None), (b"\xff", b""), (b"", b"\0" * 9)])
@pytest.mark.parametrize("headers", [(), HEADERS])
def test_a_letter_is_the_record_byte_for_byte_and_gives_it_back(
    key: bytes | None, value: bytes | None, headers: Headers
) -> None:
    dead = record(key, value, headers)
    letter, _, _ = bury(Parked(dead, 0, 1, failure=FAILURE))
    assert (letter.topic, letter.partition, letter.key, letter.value) == ("orders.payment.dlq", 3, key, value)
    assert letter.headers[: len(headers)] == headers
    assert original(letter) == dead


def test_what_is_no_letter_of_ours_is_left_alone() -> None:
    assert unbury(record(headers=(("x", b"1"),))) == ((("x", b"1"),), {})
    assert original(record(headers=(("x", b"1"),))) is None
    assert original(record(headers=(("dead-origin", b"nowhere"),))) is None


def test_a_letter_reads_well_in_any_tool() -> None:
    letter, case, _ = bury(Parked(record(), 0, 4, first=900.25, failure=FAILURE))
    ours = unbury(letter)[1]
    assert ours["dead-origin"] == "in.topic/3/17"
    assert ours["dead-stage"] == "payment"
    assert ours["dead-attempts"] == "4"
    assert ours["dead-first-failed"] == "1970-01-01T00:15:00.250+00:00"
    assert ours["dead-last-failed"] == "1970-01-01T00:16:40.500+00:00"
    assert (ours["dead-error"], ours["dead-message"]) == ("Reject", "no such card")
    assert ours["dead-case"] == case.case_id == case_id("payment", record())


def test_a_case_tells_of_its_death_and_is_one_for_each_stage_and_record() -> None:
    _, case, _ = bury(Parked(record(), 0, 2, first=900.0, failure=FAILURE))
    assert (case.state, case.verdict, case.attempts, case.event_id) == (State.OPEN, "reject", 2, "e1")
    assert [(each.what, each.who, each.why) for each in case.decisions] == [("died", "payment/a", "Reject: no such card")]
    assert case.first_failed_at == datetime(1970, 1, 1, 0, 15, tzinfo=UTC)
    others = {
        case_id("inventory", record()),
        case_id("payment", record()),
        case_id("payment", Record("in.topic", 3, 18, b"", b"")),
    }
    assert len(others) == 3


def test_a_redriven_record_that_dies_again_is_the_same_case_with_its_trail_and_all_attempts() -> None:
    _, first, encoded = bury(Parked(record(), 0, 2, first=900.0, failure=FAILURE))
    _, again, _ = bury(Parked(record(), -1, 3, first=2000.0, failure=FAILURE, case=encoded), now=3000.0)
    assert again.case_id == first.case_id
    assert again.state is State.OPEN
    assert again.attempts == 5
    assert again.first_failed_at == first.first_failed_at
    assert again.last_failed_at > first.last_failed_at
    assert [each.what for each in again.decisions] == ["died", "died"]


def test_a_redriven_record_that_succeeds_closes_its_case() -> None:
    _, _, encoded = bury(Parked(record(), 0, 2, failure=FAILURE))
    output = DEAD.resolve(encoded, 2000.0)
    assert output is not None
    case = CODEC.decoder(Case)(output.value)
    assert output.key == case.case_id.encode()
    assert case.state is State.RESOLVED
    assert [each.what for each in case.decisions] == ["died", "resolved"]
