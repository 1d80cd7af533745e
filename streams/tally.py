"""What a stage counts of itself, in plain numbers: counters, histograms, bounded words.

The one rule: it is told once a transaction, of what was committed. Whoever shows it reads it when asked; nothing here knows
how it is shown.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from streams.codec import Codec
from streams.errors import DecodeError
from streams.lanes import HELD
from streams.parked import Parked
from streams.record import BORN, Header, Output, Record, event_info
from streams.trace import TRACEPARENT, parse
from streams.work import Work

PROCESS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""Seconds; OpenTelemetry's advice for `messaging.process.duration`."""
AGES: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
"""Seconds that a record may have waited."""
FLOW: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 1800, 3600, 14400, 86400)
"""Seconds from a source to an end, deadlines of days in between."""
SIZES: Final = (1, 5, 10, 50, 100, 500, 1000, 2000, 5000, 10000)
"""Records in one transaction."""
OTHER: Final = "other"
_OLDEST: Final = 30 * 86400.0  # seconds: no record is taken for older, whatever its producer's clock says
_DIGITS: Final = 14  # of a time in milliseconds
_LONGEST: Final = 64  # characters of a label's word


class Exemplar(msgspec.Struct, frozen=True):
    """A trace that a value was measured in, to be looked up: 32 hex digits, the value, and when (seconds, epoch)."""

    trace: str
    value: float
    at: float


class Spread:
    """A histogram: `counts` has how many values were at most each of `bounds`, the last one all that are above."""

    __slots__ = ("bounds", "counts", "exemplars", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.exemplars: dict[int, Exemplar] = {}
        self.total = 0.0

    def add(self, value: float) -> None:
        """One value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def add_sorted(self, values: Sequence[float], shift: float = 0.0) -> None:
        """Many values, ascending, each with `shift` added: a few steps for all of them."""
        before = 0
        for index, bound in enumerate(self.bounds):
            upto = bisect_right(values, bound - shift)
            self.counts[index] += upto - before
            before = upto
        self.counts[-1] += len(values) - before
        self.total += max(sum(values) + shift * len(values), 0.0)

    def show(self, exemplar: Exemplar) -> None:
        """Keep an example of its bucket; the value itself is added by itself."""
        self.exemplars[bisect_left(self.bounds, exemplar.value)] = exemplar


class Words:
    """Counts by words that come from code: the first `most` of them, the rest as `other`."""

    def __init__(self, most: int) -> None:
        self.counts: dict[str, int] = {}
        self._most = most

    def add(self, word: str, count: int = 1) -> str:
        """Count it. Returns the word that it is counted by."""
        word = known = word[:_LONGEST] if word.isprintable() else OTHER
        if word not in self.counts and len(self.counts) >= self._most:
            known = OTHER
        self.counts[known] = self.counts.get(known, 0) + count
        return known


Outcome = Callable[[Output], str]


def ends(sinks: Sequence[type], codec: Codec) -> dict[str, Outcome]:
    """By topic, how the events of these classes say how it ended: by their `outcome` if they have one, else by the topic."""
    found: dict[str, Outcome] = {}
    for cls in sinks:
        topic = event_info(cls).topic
        found[topic] = _asking(codec.decoder(cls), topic) if hasattr(cls, "outcome") else _named(topic)
    return found


def _named(topic: str) -> Outcome:
    return lambda _: topic


def _asking(decode: Callable[[bytes | None], Any], topic: str) -> Outcome:
    def ask(output: Output) -> str:
        try:
            return str(decode(output.value).outcome)
        except DecodeError:  # recorded by a version that wrote something else
            return topic

    return ask


class Tally:
    """One stage's. `ends`: see the function; what is of those topics ends its way here."""

    def __init__(self, ends: Mapping[str, Outcome] | None = None) -> None:
        self.consumed: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.retried = 0
        self.dead = Words(20)
        self.holds = Words(10)
        self.process = Spread(PROCESS)
        self.wait, self.duration = Spread(AGES), Spread(AGES)
        self.transaction, self.sizes = Spread(PROCESS), Spread(SIZES)
        self.restore = Spread(AGES)
        self.flow: dict[str, Spread] = {}
        self._ends = ends or {}
        self._outcomes = Words(12)
        self._shown = 0.0  # when exemplars were looked for last

    def committed(self, work: Work, records: Sequence[Record], receipt: Output, times: tuple[float, float]) -> None:
        """A transaction has happened. `records` were new to it; it began and was done at `times` (seconds, epoch)."""
        (began, done), now = times, work.cycle.now
        writes = work.cycle.writes
        self.consumed.update([record.topic for record in records])
        self.sent.update(work.sent)
        self.sent.update({receipt.topic: 1, **({writes[0].topic: len(writes)} if writes else {})})
        self.transaction.add(done - began)
        self.sizes.add(len(work.outputs) + len(writes) + 1)
        if work.verdicts:
            self.process.add(began - now)
        self.retried += work.retried
        for error in work.errors:
            self.dead.add(error)
        ages = _ages(records, now)
        self.wait.add_sorted(ages)
        self.duration.add_sorted(ages, done - now)
        look = done - self._shown >= 1.0
        if look:
            self._shown = done
            self._show(records, done)
        if self._ends:
            self._ended(work.outputs, done, look=look)

    def _show(self, records: Sequence[Record], done: float) -> None:
        """One of them that is being traced, as an example of how long records take here."""
        for record in records:
            if record.timestamp > 0 and (trace := sampled(record.headers)):
                age = min(max(done - record.timestamp / 1000, 0.0), _OLDEST)
                self.duration.show(Exemplar(trace, age, done))
                return

    def _ended(self, outputs: Sequence[Output], done: float, *, look: bool) -> None:
        found: dict[str, list[float]] = {}
        for output in outputs:
            outcome = self._ends.get(output.topic)
            if outcome is None:
                continue
            name, born = output.headers[-1] if output.headers else ("", None)  # there it is, but for what others put behind it
            if name != BORN:
                born = dict(output.headers).get(BORN)
            if born and len(born) <= _DIGITS and born.isdigit():
                age = done - int(born) * 0.001
                word = outcome(output)
                ages = found.get(word)
                if ages is None:
                    ages = found[word] = []
                ages.append(age)
                if look and (trace := sampled(output.headers)):
                    look = False
                    self._outcome(word).show(Exemplar(trace, min(max(age, 0.0), _OLDEST), done))
        for word, ages in found.items():
            self._outcome(word).add_sorted(_sane(ages))

    def _outcome(self, word: str) -> Spread:
        known = self._outcomes.add(word)
        if (spread := self.flow.get(known)) is None:
            spread = self.flow[known] = Spread(FLOW)
        return spread


def sampled(headers: Iterable[Header]) -> str:
    """The id of the trace that a record is a part of, if somebody keeps it; else ""."""
    place = next((parse(value) for name, value in headers if name == TRACEPARENT), None)
    return place.trace_id if place is not None and place.sampled else ""


def _ages(records: Sequence[Record], now: float) -> list[float]:
    """How long each waited, in seconds, ascending."""
    return _sane([now - record.timestamp * 0.001 for record in records if record.timestamp > 0])


def _sane(ages: list[float]) -> list[float]:
    """The same, ascending. Clocks differ, and a producer may write any time."""
    ages.sort()
    if ages and (ages[0] < 0 or ages[-1] > _OLDEST):
        return [min(max(age, 0.0), _OLDEST) for age in ages]
    return ages


class Waiting(msgspec.Struct):
    """What is on a parking table, by kind, and when (ms since the epoch) the oldest that is to be tried was written."""

    retry: int = 0
    queued: int = 0
    timer: int = 0
    held: int = 0
    oldest: int | None = None


def waiting(table: Iterable[Parked]) -> Waiting:
    """A look at every parked record, such as a stage's lanes hold: some 100 ns for each."""
    found = Waiting()
    for parked in table:
        record = parked.record
        if record.offset < 0:  # a timer's is made from its id
            found.timer += 1
            continue
        if parked.due == HELD:
            found.held += 1
            continue
        if parked.attempt:
            found.retry += 1
        else:
            found.queued += 1
        if found.oldest is None or record.timestamp < found.oldest:
            found.oldest = record.timestamp
    return found
