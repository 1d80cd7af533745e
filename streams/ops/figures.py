"""What a stage does, from what was seen of it some seconds apart: rates, a quantile, what waits.

The one rule: what is not known is None, never 0; a counter that fell began anew.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

_WINDOW: Final = 10.0  # seconds over which rates and the quantile are taken

Seen = tuple[str, str]
"""Who tells (a worker's address, or the cluster) and the stage."""


class Figures(msgspec.Struct):
    """What one source tells of one stage. Counters since its start: `consumed`, `sent`, `transactions`, `dead`.

    `buckets`: how many records took at most so many seconds. `timers` are not among `parked`. `why`: what it waits for, or what
    is wrong.
    """

    consumed: float = 0
    sent: float = 0
    transactions: float = 0
    dead: float = 0
    parked: float = 0
    timers: float = 0
    why: str = ""
    buckets: dict[float, float] = {}


class Behind(msgspec.Struct):
    """What the cluster tells of one stage: records and seconds behind, members of its group, open cases."""

    records: int = 0
    seconds: float = 0.0
    members: int = 0
    cases: int = 0


class Row(msgspec.Struct, frozen=True):
    """One stage as it is shown. Rates are per second, `p99` and `oldest` in seconds. What the cluster was not asked is None."""

    stage: str
    consumed: float
    sent: float
    transactions: float
    lag: int | None
    oldest: float | None
    members: int | None
    parked: int
    timers: int
    cases: int | None
    dead: int
    p99: float | None
    why: str


class Window:
    """The looks of the last seconds."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, Mapping[Seen, Figures]]] = deque()

    def add(self, now: float, seen: Mapping[Seen, Figures]) -> None:
        """One more look; `now` is monotonic."""
        self._looks.append((now, seen))
        while len(self._looks) > 2 and now - self._looks[1][0] >= _WINDOW:
            self._looks.popleft()

    def rows(self, stages: Iterable[str], behind: Mapping[str, Behind]) -> list[Row]:
        """Each stage, as of the last look."""
        return [self._row(stage, behind.get(stage)) for stage in stages]

    def _row(self, stage: str, behind: Behind | None) -> Row:
        now, last = self._looks[-1]
        mine = {who: figures for who, figures in last.items() if who[1] == stage}
        spans = [(was, figures, now - then) for who, figures in mine.items() for then, was in (self._first(who),) if then < now]

        def rate(name: str) -> float:
            return round(sum(_gone(getattr(was, name), getattr(is_, name)) / seconds for was, is_, seconds in spans), 1)

        return Row(
            stage,
            rate("consumed"),
            rate("sent"),
            rate("transactions"),
            behind.records if behind else None,
            behind.seconds if behind else None,
            behind.members if behind else None,
            int(sum(figures.parked for figures in mine.values())),
            int(sum(figures.timers for figures in mine.values())),
            behind.cases if behind else None,
            int(sum(figures.dead for figures in mine.values())),
            _p99([(was.buckets, figures.buckets) for was, figures, _ in spans]),
            next((figures.why for figures in mine.values() if figures.why), ""),
        )

    def _first(self, who: Seen) -> tuple[float, Figures]:
        """When somebody was first seen in this window, and with what: who comes later has not done it all since."""
        return next((then, seen[who]) for then, seen in self._looks if who in seen)


def _gone(was: float, now: float) -> float:
    return now - was if now >= was else now


def _p99(pairs: Iterable[tuple[Mapping[float, float], Mapping[float, float]]]) -> float | None:
    """Prometheus' histogram_quantile: in its bucket a value is where it would be if they were evenly spread."""
    upto: dict[float, float] = {}
    for was, now in pairs:
        for bound, count in now.items():
            upto[bound] = upto.get(bound, 0.0) + _gone(was.get(bound, 0.0), count)
    total = upto.get(math.inf, 0.0)
    if not total:
        return None
    wanted, below, start = 0.99 * total, 0.0, 0.0
    for bound in sorted(upto):
        if upto[bound] >= wanted:
            if math.isinf(bound):
                return start
            return start + (bound - start) * (wanted - below) / (upto[bound] - below)
        below, start = upto[bound], bound
    return start
