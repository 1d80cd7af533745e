"""What a replay says of each event: same, changed, new, gone, open, or undecidable; and which of them are alike.

The one rule: an event is called different only if it is known to be; what may still come, or may have been removed, is not.
"""

import enum
from bisect import insort
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from streams.ops.replay.difference import Difference, compare
from streams.ops.replay.evidence import Emitted, emitted
from streams.process import Outcome, Verdict
from streams.record import Output, Record
from streams.registry import Registry
from streams.snapshot import Remembered

_EXAMPLES: Final = 5
_SHAPES: Final = 500  # that are told apart
_OTHERS: Final = "(others)"


class Kind(enum.StrEnum):
    """What an event's outputs are now, compared with then."""

    SAME = "same"
    CHANGED = "changed"
    NEW = "new"  # there is more now, or there should have been
    GONE = "gone"  # there is less now
    OPEN = "open"  # it was not handled to its end: it is parked, or dead with a case
    UNDECIDABLE = "undecidable"


class Trial(msgspec.Struct, frozen=True):
    """One event as it came out now, and all that is known of then. `undecided` says why nobody can tell.

    `waits` says where an event is that was not handled to its end: parked, or dead.
    """

    event_id: str
    record: Record
    outcome: Outcome
    found: Sequence[Emitted]
    remembered: Remembered | None = None
    waits: str = ""
    undecided: str = ""


class Finding(msgspec.Struct, frozen=True):
    """What is said of one event. `missing` are outputs that should be on their topics and are not."""

    kind: Kind
    event_id: str
    topic: str
    partition: int
    offset: int
    shape: str = ""
    differences: tuple[Difference, ...] = ()
    missing: tuple[Output, ...] = ()


class Group(msgspec.Struct):
    """Events that differ in the same way, the first of them by place as examples: partitions come in any order."""

    kind: Kind
    shape: str
    events: int = 0
    examples: list[Finding] = []


class Tally:
    """How many events of each kind, and the groups of those that are not the same."""

    def __init__(self) -> None:
        self.counts: Counter[Kind] = Counter()
        self._groups: dict[tuple[Kind, str], Group] = {}

    def take(self, finding: Finding) -> None:
        """Count one event."""
        self.counts[finding.kind] += 1
        if finding.kind is Kind.SAME:
            return
        shape = finding.shape if len(self._groups) < _SHAPES or (finding.kind, finding.shape) in self._groups else _OTHERS
        group = self._groups.setdefault((finding.kind, shape), Group(finding.kind, shape))
        group.events += 1
        if len(group.examples) < _EXAMPLES or _where(finding) < _where(group.examples[-1]):
            insort(group.examples, msgspec.structs.replace(finding, missing=()), key=_where)
            del group.examples[_EXAMPLES:]

    @property
    def groups(self) -> list[Group]:
        """The largest first."""
        return sorted(self._groups.values(), key=lambda group: (-group.events, group.kind, group.shape))

    @property
    def clean(self) -> bool:
        """Whether nothing differs. What is open or undecidable is no difference, and no proof either."""
        return not any(self.counts[kind] for kind in (Kind.CHANGED, Kind.NEW, Kind.GONE))


def _where(finding: Finding) -> tuple[str, int, int]:
    return finding.topic, finding.partition, finding.offset


class Judge:
    """Says what a trial shows.

    `horizon` says for a topic from when on (ms since the Unix epoch) all that was ever on it still is. `later` are topics of
    what the stage sends itself: only the inbox knows of these. `ignore` names fields that may differ.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        horizon: Mapping[str, int] | None = None,
        later: frozenset[str] = frozenset(),
        ignore: frozenset[str] = frozenset(),
    ) -> None:
        self._registry = registry
        self._horizon = horizon or {}
        self._later = later
        self._ignore = ignore

    def judge(self, trial: Trial) -> Finding:
        """What is to be said of one event."""
        outcome = trial.outcome
        now, then = self._now(trial), self._then(trial)
        failed = outcome.verdict is not Verdict.DONE
        if trial.waits and not then:
            what = _verdict(outcome) if failed else ", ".join(sorted({one.topic for one in now.values()})) or "nothing"
            return _finding(trial, Kind.OPEN, f"{trial.waits}; now: {trial.undecided or what}")
        if trial.undecided:
            return _finding(trial, Kind.UNDECIDABLE, trial.undecided)
        if failed:
            gone = tuple(Difference("gone", output.topic, known) for known, output in then.items())
            return _finding(trial, Kind.GONE if gone else Kind.CHANGED, f"now {_verdict(outcome)}", gone)
        differences = tuple(compare(now, then, self._registry, self._ignore))
        return self._finding(trial, differences) if differences else _finding(trial, Kind.SAME)

    def _finding(self, trial: Trial, differences: tuple[Difference, ...]) -> Finding:
        remembered = {emitted(output).id for output in trial.remembered.outputs} if trial.remembered else set()
        new = {one.id for one in differences if one.kind == "new"}
        if new:
            at = trial.remembered.at if trial.remembered else trial.record.timestamp
            if old := next((one.topic for one in differences if one.id in new and at < self._horizon.get(one.topic, 0)), None):
                return _finding(trial, Kind.UNDECIDABLE, f"{old} is no longer kept from then on")
        kinds = {one.kind for one in differences}
        kind = Kind(next(iter(kinds))) if len(kinds) == 1 else Kind.CHANGED
        shapes = {f"lost: {one.topic}" if one.kind == "new" and one.id in remembered else one.shape for one in differences}
        outputs = trial.outcome.outputs
        missing = tuple(output for output in outputs if output.topic not in self._later and emitted(output).id in new)
        return _finding(trial, kind, "; ".join(sorted(shapes)), differences, missing)

    def _now(self, trial: Trial) -> dict[str, Emitted]:
        known = trial.remembered is not None
        outputs = (output for output in trial.outcome.outputs if known or output.topic not in self._later)
        return {one.id: one for one in map(emitted, outputs)}

    def _then(self, trial: Trial) -> dict[str, Emitted]:
        found = {one.id: one for one in trial.found}
        if self._later and trial.remembered is not None:
            timers = (output for output in trial.remembered.outputs if output.topic in self._later)
            found |= {one.id: one for one in map(emitted, timers)}
        return found


def _verdict(outcome: Outcome) -> str:
    why = f": {outcome.failure.fingerprint}" if outcome.failure else ""
    return f"{outcome.verdict.value}{why}"


def _finding(
    trial: Trial,
    kind: Kind,
    shape: str = "",
    differences: tuple[Difference, ...] = (),
    missing: tuple[Output, ...] = (),
) -> Finding:
    record = trial.record
    return Finding(kind, trial.event_id, record.topic, record.partition, record.offset, shape, differences, missing)


def as_dict(finding: Finding) -> dict[str, Any]:
    """A finding for JSON: without the bytes of what is missing."""
    shown: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(finding, missing=()))
    del shown["missing"]
    shown["missing"] = len(finding.missing)
    return shown
