"""A parked record on its table: byte for byte, to the millisecond, and never mistaken for something else."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.parked import BY, Parked, parse, place, tombstone
from streams.process import Failure
from streams.record import Record

TABLE = "t.retry"
RECORD = Record("in.topic", 3, 17, b"k", b"v", (("a", b"1"),), 123)
names = st.sampled_from([BY, "parked-key", "parked-null", "parked-seq", "parked-case", "id", "é"])


def back(parked: Parked, by: str = "me/1") -> tuple[str, Parked | None]:
    output = parked.output(TABLE, by)
    return parse(Record(TABLE, output.partition or 0, 0, output.key, output.value, output.headers))


@given(
    st.builds(
        Record,
        st.sampled_from(["in.topic", "a", "with.many.dots"]),
        st.integers(0, 50),
        st.integers(0, 2**60),
        st.none() | st.binary(max_size=9),
        st.none() | st.binary(max_size=9),
        st.lists(st.tuples(names, st.none() | st.binary(max_size=5))).map(tuple),
        st.integers(-1, 2**45),
    ),
    st.integers(-1, 2**40),
    st.floats(0, 4e9) | st.just(math.inf),
    st.floats(0, 4e9),
    st.none() | st.builds(Failure, st.sampled_from(["E", "Retry"]), st.text(), st.text(max_size=5)),
    st.binary(max_size=9),
)
def test_what_is_parked_comes_back_as_it_was(  # one value for each field
    record: Record, seq: int, due: float, first: float, failure: Failure | None, case: bytes
) -> None:
    parked = Parked(record, seq, 2, due, first if failure else 0.0, failure, case).kept(seq)
    assert due <= parked.due < due + 0.0011 or parked.due == due
    assert back(parked) == ("me/1", parked)
    assert parked.kept(seq) == parked, "a time that is whole stays"


def test_a_tombstone_has_the_records_place_and_says_who_wrote_it() -> None:
    output = tombstone(Parked(RECORD, 0), TABLE, "op")
    assert (output.key, output.value, output.partition) == (place(RECORD), None, 3)
    assert parse(Record(TABLE, 3, 0, output.key, None, output.headers)) == ("op", None)


@pytest.mark.parametrize(
    ("key", "change"),
    [
        (b"in.topic/3", {}),
        (None, {}),
        (b"\xff/3/17", {}),
        (b"in.topic/2/17", {}),
        (b"in.topic/three/17", {}),
        (b"in.topic/3/17", {"parked-due": b"soon"}),
        (b"in.topic/3/17", {"parked-due": b"9" * 400}),
        (b"in.topic/3/17", {"parked-seq": None}),
        (b"in.topic/3/17", {"parked-timestamp": b""}),
    ],
)
def test_what_nobody_of_us_wrote_is_passed_over(key: bytes | None, change: dict[str, bytes | None]) -> None:
    output = Parked(RECORD, 0).output(TABLE, "op")
    headers = tuple((name, change.get(name, value)) for name, value in output.headers)
    assert parse(Record(TABLE, 3, 0, key, output.value, headers)) == ("op", None)


def test_a_record_without_our_last_header_is_no_parked_record() -> None:
    output = Parked(RECORD, 0).output(TABLE, "op")
    headers = tuple(header for header in output.headers if header[0] != BY)
    assert parse(Record(TABLE, 3, 0, output.key, output.value, headers)) == ("", None)


def test_size_counts_what_a_record_holds() -> None:
    small = Parked(RECORD, 0)
    large = Parked(msgspec.structs.replace(RECORD, value=b"v" * 1001, headers=(("a", b"1" * 501),)), 0, case=b"c" * 50)
    assert large.size - small.size == 1000 + 500 + 50
