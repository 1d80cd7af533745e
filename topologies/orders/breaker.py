"""A circuit breaker: who has failed often is left alone for a while, then asked once.

The one rule: it knows no clock and no network; times come in, in seconds of any steady clock.

After Nygard, Release It!: closed lets all through, open nothing, half-open one call that decides.
"""

import enum
import math
from collections import deque
from typing import Final

_RECENT: Final = 100  # calls that the failure rate is taken of, as soon as there are
_ENOUGH: Final = 20  # of them


class Circuit(enum.StrEnum):
    """What a breaker lets through: everything, nothing, one call."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """One dependency's breaker.

    It opens after `failures` in a row, or when `rate` of the last 20 to 100 calls have failed; for `first` seconds, and
    twice as long each time that the one call after it fails too, up to `ceiling`.

    Calls are made side by side, and those that are never answered end last, all together: a failure is one in a row only
    if no call has been answered since it began.
    """

    def __init__(self, *, failures: int = 5, rate: float = 0.5, first: float = 1.0, ceiling: float = 30.0) -> None:
        self.state = Circuit.CLOSED
        self.opened = 0
        self._failures = failures
        self._rate = rate
        self._first = first
        self._ceiling = ceiling
        self._recent: deque[bool] = deque(maxlen=_RECENT)
        self._row = 0
        self._answered = -math.inf
        self._wait = first
        self._until = 0.0

    def wait(self, now: float) -> float:
        """How long no call may be made, in seconds: 0 if one may, and then it must be told of with `good` or `bad`."""
        if self.state is Circuit.CLOSED:
            return 0.0
        if self.state is Circuit.OPEN and now >= self._until:
            self.state = Circuit.HALF_OPEN
            self._until = now + self._wait  # should the one call never be told of, the next may go then
            return 0.0
        if self.state is Circuit.HALF_OPEN and now >= self._until:
            self._until = now + self._wait
            return 0.0
        return self._until - now

    def good(self, now: float) -> None:
        """A call was answered."""
        if self.state is Circuit.HALF_OPEN:
            self.state = Circuit.CLOSED
            self._recent.clear()
            self._wait = self._first
        self._answered = now
        self._row = 0
        self._recent.append(True)

    def bad(self, now: float, began: float) -> None:
        """A call that began then was not answered, or with an error of the other side's."""
        if self.state is Circuit.OPEN:
            return  # it was under way when the circuit was opened
        self._row += self._answered < began
        self._recent.append(False)
        if self.state is Circuit.HALF_OPEN:
            self._wait = min(self._ceiling, self._wait * 2)
            self._open(now)
        elif self._row >= self._failures or self._too_many():
            self._open(now)

    def _too_many(self) -> bool:
        return len(self._recent) >= _ENOUGH and self._recent.count(False) >= self._rate * len(self._recent)

    def _open(self, now: float) -> None:
        self.state = Circuit.OPEN
        self.opened += 1
        self._until = now + self._wait
        self._row = 0
