from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.codec import Codec
from streams.dead import Case, DeadLetters, State, original
from streams.errors import SetupError
from streams.ops.cases import Filters, full_id, groups, moment, trace_id
from streams.ops.edit import Editor, assign
from streams.ops.foreign import recognise
from streams.parked import Parked
from streams.process import Failure, Verdict
from streams.record import Header, Output, Record
from streams.registry import FolderRegistry
from topologies.orders import orders
from topologies.orders.events import OrderLine, OrderSubmitted

NOW = datetime(2024, 5, 31, 12, tzinfo=UTC)
CODEC = Codec([*orders.events, Case], FolderRegistry(orders.schemas))


def a_case(case_id: str = "a1", **fields: object) -> Case:
    case = Case(case_id, "payment", State.OPEN, "t", 0, 1, "e", b"k", "reject", "E", "m", "E@f", 1, NOW, NOW, None, ())
    return msgspec.structs.replace(case, **fields)


def as_read(output: Output, offset: int = 5) -> Record:
    return Record(output.topic, output.partition or 0, offset, output.key, output.value, output.headers, 777)


headers = st.lists(st.tuples(st.sampled_from(["id", "dead-origin", "dead-case", "x"]), st.none() | st.binary(max_size=9)))


@given(st.none() | st.binary(), st.none() | st.binary(), headers, st.integers(0, 2**40))
def test_a_dead_letter_gives_its_record_back_byte_for_byte(
    key: bytes | None, value: bytes | None, own: list[Header], timestamp: int
) -> None:
    record = Record("orders.submitted", 3, 17, key, value, tuple(own), timestamp)
    letters = DeadLetters("orders", "intake", CODEC, who="me")
    letter, _, _ = letters.bury(Parked(record, 0, 1, failure=Failure("E", "m", "E@f")), Verdict.REJECT, 1_700_000_000.5)
    assert original(as_read(letter)) == record


def test_what_is_no_dead_letter_gives_no_record() -> None:
    assert original(Record("t", 0, 0, b"k", b"v", (("x", b"1"),))) is None
    assert original(Record("t", 0, 0, b"k", b"v", (("dead-origin", b"no place"),))) is None


def test_filters_choose_what_is_like_all_of_them_the_longest_dead_first() -> None:
    late = a_case("b2", last_failed_at=NOW + timedelta(hours=1), stage="intake")
    done = a_case("c3", state=State.RESOLVED, key=None)
    cases = {case.case_id: case for case in (late, a_case(), done)}

    def ids(**fields: object) -> list[str]:
        return [case.case_id for case in Filters(**fields).choose(cases)]  # type: ignore[arg-type]  # each test's own

    assert ids() == ["a1", "b2"]
    assert ids(stage="intake") == ["b2"]
    assert ids(key="k", since=NOW + timedelta(minutes=1)) == ["b2"]
    assert ids(fingerprint="other") == []
    assert ids(states=frozenset(State)) == ["a1", "c3", "b2"]
    assert sorted(ids(ids=("c", "a1", "a"))) == ["a1", "c3"], "named, whatever its state, and each once"


def test_an_id_may_be_shortened_until_it_could_be_anothers() -> None:
    cases = {one: a_case(one) for one in ("abc1", "abd2")}
    assert full_id(cases, "ABC") == "abc1"
    for wrong in ("ab", "", "x"):
        with pytest.raises(SetupError):
            full_id(cases, wrong)


def test_a_group_has_its_count_its_times_and_its_newest_message() -> None:
    old = a_case("b", first_failed_at=NOW - timedelta(days=1), message="old", last_failed_at=NOW - timedelta(hours=1))
    first, second = groups([a_case("c", fingerprint="other"), a_case(message="new"), old])
    assert (first.cases, first.message, first.first_seen, first.last_seen) == (2, "new", NOW - timedelta(days=1), NOW)
    assert second.fingerprint == "other"


def test_a_time_is_an_age_or_iso() -> None:
    assert moment("90s", NOW) == NOW - timedelta(seconds=90)
    assert moment("2024-05-31T08:00", NOW) == NOW - timedelta(hours=4)
    assert moment("2024-05-31T08:00+02:00", NOW) == NOW - timedelta(hours=6)
    assert moment("99999999999999d", NOW) < NOW, "longer ago than there are years"
    with pytest.raises(SetupError):
        moment("yesterday", NOW)


def test_a_trace_is_known_by_its_traceparent_if_that_is_one() -> None:
    def of(value: bytes) -> str | None:
        return trace_id(Record("t", 0, 0, None, None, (("traceparent", value),)))

    assert of(b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01") == "a" * 32
    assert of(b"\xff\xfe") is None
    assert of(b"00-short-x-01") is None


def test_a_change_finds_its_place_and_is_json_if_it_can_be() -> None:
    changed = assign('{"a": [{"b": 1}, {"b": 2}], "c": "x"}', ["a[1].b=7", "c=EUR"])
    assert msgspec.json.decode(changed) == {"a": [{"b": 1}, {"b": 7}], "c": "EUR"}
    for wrong in ("a", "=1", "a[2].b=1", "c.d=1", "a..b=1", "a[x]=1"):
        with pytest.raises(SetupError):
            assign('{"a": [{"b": 1}], "c": "x"}', [wrong])


ORDER = OrderSubmitted("o1", "c1", "s1", NOW, "USD", (OrderLine("1", "BAGEL", 2, 100),))


def test_an_edit_keeps_what_was_not_changed_and_is_an_event_again() -> None:
    editor = Editor(orders, CODEC, a_case(topic="orders.submitted", key=b"o1"))
    value = CODEC.encoder(OrderSubmitted)(ORDER)
    edited = editor.read(assign(editor.show(value), ["lines[0].quantity=3", "placed_at=2024-05-31T08:00:00Z"]), value)
    expected = msgspec.structs.replace(ORDER, placed_at=NOW - timedelta(hours=4), lines=(OrderLine("1", "BAGEL", 3, 100),))
    assert CODEC.decoder(OrderSubmitted)(edited) == expected
    assert editor.read(editor.show(value), value) == value


@pytest.mark.parametrize(
    ("text", "before", "says"),
    [
        ("[]", b"", "Expected `object`"),
        ("{", b"", "truncated"),
        ('"\\ud800"', b"", "no sound"),
        ("[" * 10_000, b"", "no sound"),
        (msgspec.json.encode(ORDER).replace(b"o1", b"o2"), CODEC.encoder(OrderSubmitted)(ORDER), "key is 'o1'"),
        (msgspec.json.encode(ORDER).replace(b"o1", b"o2"), b"no event", "key is 'k'"),
        (msgspec.json.encode(ORDER).replace(b"USD", b"U" * 1_000_001), CODEC.encoder(OrderSubmitted)(ORDER), "1,000,000"),
    ],
)
def test_an_edit_that_is_no_sound_event_of_this_key_is_refused(text: str | bytes, before: bytes, says: str) -> None:
    with pytest.raises(SetupError, match=says):
        Editor(orders, CODEC, a_case(topic="orders.submitted")).read(text, before)


def _number(value: bytes, name: str) -> tuple[int, int] | None:
    given = {"partition": (3).to_bytes(4), "offset": (4).to_bytes(8)} | {name: value}
    found = recognise(
        Record(
            "dlt",
            0,
            0,
            b"k",
            b"v",
            (("kafka_dlt-original-topic", b"t"), *((f"kafka_dlt-original-{n}", v) for n, v in given.items())),
        )
    )
    return (found.record.partition, found.record.offset) if found else None


def test_springs_numbers_are_bytes_or_text_and_nonsense_is_no_place() -> None:
    assert _number((7).to_bytes(4), "partition") == (7, 4)
    assert _number(b"7", "partition") == (7, 4)
    assert _number(b"1234", "partition") == (1234, 4)
    assert _number((2**40).to_bytes(8), "offset") == (3, 2**40)
    for nonsense in (b"", b"\xff" * 4, b"\x00", b"9" * 30):
        assert _number(nonsense, "partition") is None


def test_the_group_of_a_java_exception_is_its_innermost_cause() -> None:
    stack = b"a.Outer: x\n\tat a.B.outer(B.java:1)\nCaused by: a.Inner: y\n\tat a.C.inner(C.java:2)\n\tat a.B.outer(B.java:1)"
    own = (
        ("__streams.errors.topic", b"t"),
        ("__streams.errors.partition", b"0"),
        ("__streams.errors.offset", b"1"),
        ("__streams.errors.exception", b"a.Outer: x: y"),
        ("__streams.errors.stacktrace", stack),
    )
    found = recognise(Record("dlq", 0, 0, None, None, own))
    assert found
    assert (found.error, found.message, found.fingerprint) == ("a.Outer", "x: y", "a.Outer@a.C.inner")


def test_a_letter_that_died_twice_says_where_it_was_first_and_why_it_died_last() -> None:
    own = [
        (f"kafka_dlt-{n}", v) for n, v in (("original-topic", b"t"), ("original-partition", b"1"), ("original-offset", b"2"))
    ]
    own += [
        ("kafka_dlt-exception-fqcn", b"First"),
        ("kafka_dlt-original-topic", b"t.DLT"),
        ("kafka_dlt-exception-fqcn", b"Last"),
    ]
    found = recognise(Record("dlq", 0, 0, None, None, tuple(own)))
    assert found
    assert (found.record.topic, found.record.headers, found.error) == ("t", (), "Last")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    "kafka_dlt-original-topic",
                    "kafka_dlt-original-offset",
                    "dead-origin",
                    "kafka_dlt-original-partition",
                    "__connect.errors.topic",
                    "__connect.errors.offset",
                    "dead-attempts",
                    "dead-first-failed",
                    "__connect.errors.partition",
                    "__streams.errors.topic",
                    "__streams.errors.exception",
                ]
            ),
            st.none() | st.binary(max_size=20),
        )
    )
)
def test_any_headers_are_a_dead_letter_or_none(own: list[Header]) -> None:
    recognise(Record("dlq", 0, 0, None, None, tuple(own), -1))
