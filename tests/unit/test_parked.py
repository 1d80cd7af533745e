"""Parked records by example: what is one, what is not, and how large it is."""

import msgspec
import pytest

from streams.parked import BY, Parked, parse, place, tombstone
from streams.record import Record

TABLE = "t.retry"
RECORD = Record("in.topic", 3, 17, b"k", b"v", (("a", b"1"),), 123)


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
