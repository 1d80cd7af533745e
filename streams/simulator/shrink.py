"""From a schedule that fails to the shortest one that still does.

The one rule: it fails for the same kind of reason; nothing is left in it that can be left out.

Delta debugging (Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input", 2002) over the actions, then
smaller numbers in those that are left.
"""

import time
from collections.abc import Callable, Iterator, Sequence

import msgspec

from streams.simulator.kit import Kit
from streams.simulator.run import Report, play
from streams.simulator.schedule import Action, Schedule

Fails = Callable[[Sequence[Action]], bool]


def shrink(
    kit: Kit, schedule: Schedule, report: Report, *, seconds: float = 60.0, progress: Callable[[int], object] = lambda _: None
) -> Schedule:
    """A schedule with as few actions as possible whose report has a finding of the same kind as the first of `report`.

    It stops after so many `seconds` with what it has by then. `progress` is told how many actions are left.
    """
    kind = report.findings[0].kind
    deadline = time.monotonic() + seconds

    def fails(actions: Sequence[Action]) -> bool:
        if time.monotonic() > deadline:
            return False
        found = play(kit, Schedule(schedule.seed, tuple(actions))).findings
        return any(finding.kind == kind for finding in found)

    actions = list(schedule.actions)
    while True:
        before = list(actions)
        actions = _fewer(actions, fails, progress)
        actions = _smaller(actions, fails)
        if actions == before:
            return Schedule(schedule.seed, tuple(actions))


def _fewer(actions: list[Action], fails: Fails, progress: Callable[[int], object]) -> list[Action]:
    """Leave out ever smaller parts."""
    size = max(1, len(actions) // 2)
    while actions:
        at = 0
        while at < len(actions):
            rest = actions[:at] + actions[at + size :]
            if fails(rest):
                actions = rest
                progress(len(actions))
            else:
                at += size
        if size == 1:
            break
        size //= 2
    return actions


def _smaller(actions: list[Action], fails: Fails) -> list[Action]:
    """Fewer events, fewer steps, shorter times."""
    for index in range(len(actions)):
        for smaller in _candidates(actions[index]):
            tried = [*actions[:index], smaller, *actions[index + 1 :]]
            if fails(tried):
                actions = tried
                break
    return actions


def _candidates(action: Action) -> Iterator[Action]:
    """The same action with less in it, the least first."""
    if action.what in ("produce", "work"):
        for number in (1, 2, 4, action.number // 4, action.number // 2, action.number - 1):
            if 0 < number < action.number:
                yield msgspec.structs.replace(action, number=number)
    elif action.seconds > 1 and action.what != "freeze":
        yield msgspec.structs.replace(action, seconds=action.seconds // 2)
