"""A law of the parking table: what is parked comes back byte for byte, and to the millisecond."""

import math

from hypothesis import given
from hypothesis import strategies as st

from streams.parked import BY, Parked, parse
from streams.process import Failure
from streams.record import Record

TABLE = "t.retry"
NAMES = st.sampled_from([BY, "parked-key", "parked-null", "parked-seq", "parked-case", "id", "é"])


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
        st.lists(st.tuples(NAMES, st.none() | st.binary(max_size=5))).map(tuple),
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
    assert parked.due == due or due - 1.1e-5 < parked.due < due + 0.0011
    assert back(parked) == ("me/1", parked)
    assert parked.kept(seq) == parked, "a time that is whole stays"
