"""The one writer of a kind never registers again by itself: what it writes goes by what was read when it took over."""

import pytest

from streams.errors import Aborted, Fenced
from streams.kafka.writer import Silent, Undecided
from streams.ops.takeover import SoleWriter


class Double:
    """A writer whose next transaction ends as told; `opened` as after it."""

    def __init__(self, outcome: Exception | None, opened: bool = True) -> None:
        self.opened = True
        self.wrote = 0
        self._outcome, self._after = outcome, opened

    def open(self) -> None:
        self.opened = True

    def write(self, _: object) -> None:
        self.opened = self._after
        if self._outcome is not None:
            raise self._outcome
        self.wrote += 1


def writer(double: Double) -> SoleWriter:
    return SoleWriter(double, "operator")  # type: ignore[arg-type]


@pytest.mark.parametrize("outcome", [Undecided("no answer"), Silent("no answer")])
def test_whose_producer_was_replaced_ends_and_says_that_one_may_begin_again(outcome: Exception) -> None:
    double = Double(outcome, opened=False)
    sole = writer(double)
    with pytest.raises(Fenced, match=r"no answer.*begin again"):
        sole.write([])
    double._outcome = None
    with pytest.raises(Fenced, match="begin again"):
        sole.write([])
    assert not double.wrote, "another may have taken over meanwhile"


def test_after_an_ordinary_abort_it_writes_when_it_has_taken_over_again() -> None:
    double = Double(Aborted("a record is too large"), opened=False)
    sole = writer(double)
    with pytest.raises(Aborted, match="too large"):
        sole.write([])
    double._outcome, double._after = None, True
    with pytest.raises(Fenced, match="begin again"):
        sole.write([])
    sole.renew()
    sole.write([])
    assert double.wrote == 1


def test_who_was_fenced_is_told_by_whom() -> None:
    with pytest.raises(Fenced, match="another operator has taken over"):
        writer(Double(Fenced("producer fenced"))).write([])
