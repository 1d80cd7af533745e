"""The breaker, by a clock that is a number."""

from topologies.orders.breaker import Breaker, Circuit


def test_it_opens_after_failures_in_a_row_and_one_good_call_closes_it() -> None:
    breaker = Breaker(failures=3, first=2.0)
    for _ in range(2):
        breaker.bad(0.0)
    breaker.good()
    for _ in range(2):
        breaker.bad(0.0)
    assert (breaker.state, breaker.wait(0.0)) == (Circuit.CLOSED, 0.0), "not in a row"
    breaker.bad(0.0)
    assert (breaker.state, breaker.wait(0.5)) == (Circuit.OPEN, 1.5)
    assert (breaker.wait(2.0), breaker.state) == (0.0, Circuit.HALF_OPEN)
    assert breaker.wait(2.0) > 0, "one call decides, and no other goes meanwhile"
    breaker.good()
    assert (breaker.state, breaker.wait(2.0)) == (Circuit.CLOSED, 0.0)


def test_it_opens_at_a_rate_of_failures_that_are_never_in_a_row() -> None:
    breaker = Breaker(failures=100, rate=0.5)
    for _ in range(9):
        breaker.bad(0.0)
        breaker.good()
    breaker.good()
    assert breaker.wait(0.0) == 0, "19 calls are too few to tell"
    for _ in range(2):
        breaker.bad(0.0)
    assert breaker.wait(0.0) > 0
    assert breaker.wait(100.0) == 0
    breaker.good()
    breaker.bad(100.0)
    assert breaker.wait(100.0) == 0, "what was before it opened counts no more"


def test_who_fails_again_is_left_alone_for_twice_as_long() -> None:
    breaker, now, waits = Breaker(failures=1, first=1.0, ceiling=3.0), 0.0, []
    for _ in range(4):
        breaker.bad(now)
        waits.append(breaker.wait(now))
        now += waits[-1]
        assert breaker.wait(now) == 0.0
    assert (waits, breaker.opened) == ([1.0, 2.0, 3.0, 3.0], 4)
    breaker.good()
    breaker.bad(now)
    assert breaker.wait(now) == 1.0, "it begins anew once it has been closed"


def test_a_trial_that_nobody_tells_of_does_not_shut_it_for_ever() -> None:
    breaker = Breaker(failures=1, first=1.0)
    breaker.bad(0.0)
    assert breaker.wait(1.0) == 0.0
    assert breaker.wait(1.5) == 0.5
    assert breaker.wait(2.0) == 0.0


def test_calls_that_were_under_way_when_it_opened_change_nothing() -> None:
    breaker = Breaker(failures=1, first=1.0)
    breaker.bad(0.0)
    breaker.bad(0.9)
    breaker.good()
    assert (breaker.state, breaker.wait(0.5)) == (Circuit.OPEN, 0.5)
