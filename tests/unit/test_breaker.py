"""The breaker, by a clock that is a number."""

from topologies.orders.breaker import Breaker, Circuit


def test_it_opens_after_failures_in_a_row_and_one_good_call_closes_it() -> None:
    breaker = Breaker(failures=3, first=2.0)
    for _ in range(2):
        breaker.bad(1.0, 1.0)
    breaker.good(1.0)
    for _ in range(2):
        breaker.bad(2.0, 2.0)
    assert (breaker.state, breaker.wait(2.0)) == (Circuit.CLOSED, 0.0), "not in a row"
    breaker.bad(2.0, 2.0)
    assert (breaker.state, breaker.wait(2.5)) == (Circuit.OPEN, 1.5)
    assert (breaker.wait(4.0), breaker.state) == (0.0, Circuit.HALF_OPEN)
    assert breaker.wait(4.0) > 0, "one call decides, and no other goes meanwhile"
    breaker.good(4.0)
    assert (breaker.state, breaker.wait(4.0)) == (Circuit.CLOSED, 0.0)


def test_calls_that_hang_while_others_are_answered_are_not_in_a_row() -> None:
    """A batch of 100 calls side by side of which 5 hang: the 95 end at once, the 5 together at their deadline."""
    breaker = Breaker(failures=3)
    for batch in range(10):
        for _ in range(95):
            breaker.good(batch + 0.1)
        for _ in range(5):
            breaker.bad(batch + 1.0, batch + 0.0)
    assert breaker.opened == 0
    for _ in range(3):
        breaker.bad(12.0, 11.0)
    assert breaker.wait(12.0) > 0, "nobody was answered since"


def test_it_opens_at_a_rate_of_failures_that_are_never_in_a_row() -> None:
    breaker = Breaker(failures=100, rate=0.5)
    for _ in range(9):
        breaker.bad(0.0, 0.0)
        breaker.good(0.0)
    breaker.bad(0.0, 0.0)
    assert breaker.wait(0.0) == 0, "19 calls are too few to tell"
    breaker.bad(0.0, 0.0)
    assert breaker.wait(0.0) > 0
    assert breaker.wait(100.0) == 0
    breaker.good(100.0)
    for _ in range(18):
        breaker.bad(100.0, 100.0)
    assert breaker.wait(100.0) == 0, "what was before it opened counts no more"


def test_who_fails_again_is_left_alone_for_twice_as_long() -> None:
    breaker, now, waits = Breaker(failures=1, first=1.0, ceiling=3.0), 0.0, []
    for _ in range(4):
        breaker.bad(now, now)
        waits.append(breaker.wait(now))
        now += waits[-1]
        assert breaker.wait(now) == 0.0
    assert (waits, breaker.opened) == ([1.0, 2.0, 3.0, 3.0], 4)
    breaker.good(now)
    breaker.bad(now + 1, now + 1)
    assert breaker.wait(now + 1) == 1.0, "it begins anew once it has been closed"


def test_a_trial_that_nobody_tells_of_does_not_shut_it_for_ever() -> None:
    breaker = Breaker(failures=1, first=1.0)
    breaker.bad(0.0, 0.0)
    assert breaker.wait(1.0) == 0.0
    assert breaker.wait(1.5) == 0.5
    assert breaker.wait(2.0) == 0.0


def test_calls_that_were_under_way_when_it_opened_change_nothing() -> None:
    breaker = Breaker(failures=1, first=1.0)
    breaker.bad(0.0, 0.0)
    breaker.bad(0.9, 0.0)
    breaker.good(0.9)
    assert (breaker.state, breaker.wait(0.5)) == (Circuit.OPEN, 0.5)
