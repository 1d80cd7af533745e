"""What was handed out and not committed comes again after a rewind, or the session ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import Fenced
from streams.kafka.uncommitted import Uncommitted

PLACE = ("orders.closed", 2)


def handed_out(*offsets: int) -> Uncommitted:
    uncommitted = Uncommitted()
    for offset in offsets:
        uncommitted.hand_out(PLACE, offset)
    return uncommitted


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=30),
    st.lists(st.tuples(st.sampled_from(["read", "commit", "rewind"]), st.integers(0, 9)), max_size=60),
)
def test_whoever_reads_on_from_the_last_commit_is_never_stopped(steps: list[int], acts: list[tuple[str, int]]) -> None:
    log = [sum(steps[:number]) for number in range(len(steps))]  # offsets, with gaps
    uncommitted, stood, at = Uncommitted(), 0, 0
    for act, number in acts:
        if act == "rewind":
            uncommitted.rewind()
            at = stood
        elif act == "commit":
            stood = min(stood + number, at)
            uncommitted.committed(PLACE, log[stood] if stood < len(log) else log[-1] + 1)
        else:
            for offset in log[at : at + number]:
                uncommitted.hand_out(PLACE, offset)
            at = min(at + number, len(log))
            if at == len(log):
                uncommitted.end(PLACE, log[-1] + 1)


def test_a_record_that_is_passed_over_ends_the_session() -> None:
    uncommitted = handed_out(238, 239)
    uncommitted.rewind()
    with pytest.raises(Fenced, match=r"orders\.closed\[2\]: the record at 238 .* 241 came in its place"):
        uncommitted.hand_out(PLACE, 241)


def test_so_does_one_in_the_middle_and_one_behind_an_end() -> None:
    uncommitted = handed_out(1, 2, 4)
    uncommitted.rewind()
    uncommitted.hand_out(PLACE, 1)
    with pytest.raises(Fenced, match="at 2 "):
        uncommitted.hand_out(PLACE, 4)
    with pytest.raises(Fenced, match=r"at 2 .* the end at 6"):
        uncommitted.end(PLACE, 6)


def test_an_end_before_what_is_due_says_nothing() -> None:
    uncommitted = handed_out(7)
    uncommitted.rewind()
    uncommitted.end(PLACE, 7)  # a new leader that does not know yet how far its followers are


def test_a_commit_in_the_middle_leaves_the_rest_due() -> None:
    uncommitted = handed_out(1, 2, 4)
    uncommitted.committed(PLACE, 2)
    uncommitted.rewind()
    with pytest.raises(Fenced, match="at 2 "):
        uncommitted.hand_out(PLACE, 4)


def test_what_another_owns_is_forgotten() -> None:
    uncommitted = handed_out(1)
    uncommitted.rewind()
    uncommitted.forget([PLACE])
    uncommitted.hand_out(PLACE, 9)
