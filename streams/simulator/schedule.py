"""The schedule of a run: what the scheduler does, one action after the other.

The one rule: a run follows from its schedule alone. An action says whom it means by name and brings its own seed, so that it
means the same when those before it are left out.
"""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Final

import msgspec

POINTS: Final = ("poll", "handle", "commit", "sent", "ready", "committed")
"""Where a worker can be stopped: before it polls; with records in hand; with the database committed and nothing on Kafka; with
its outputs in an open transaction; with the offsets in it too; with it committed and not knowing it."""


class Action(msgspec.Struct, frozen=True, omit_defaults=True):
    """One action. `who` is a worker (`stage/number`); what the rest means depends on `what`."""

    what: str
    who: str = ""
    point: str = ""
    number: int = 0
    seconds: float = 0.0
    seed: int = 0

    def __str__(self) -> str:
        return _TEXTS[self.what].format(self)


_TEXTS: Final = {
    "produce": "produce about {0.number} events (seed {0.seed})",
    "work": "work: {0.number} steps of whoever has something to do (seed {0.seed})",
    "wait": "let {0.seconds:g} s pass",
    "crash": "crash {0.who} at its next {0.point!r}; up again after {0.seconds:g} s",
    "crash-sql": "crash {0.who} before database statement {0.number} from now; up again after {0.seconds:g} s",
    "lose-sql": "{0.who} loses the database before statement {0.number} from now",
    "lose-commit": "{0.who} loses the database in its next commit, {0.point} it happened",
    "freeze": "freeze {0.who} at its next {0.point!r} for {0.seconds:g} s",
    "abort": "the coordinator aborts the next transaction of {0.who}",
    "lose-reply": "the reply to the next commit of {0.who} is lost, {0.point} it happened",
    "twin": "a second process starts as {0.who}",
    "stop": "stop {0.who} in good order; up again after {0.seconds:g} s",
    "join": "one more worker {0.who}",
    "skew": "the clock of {0.who} is {0.seconds:+g} s off",
    "jump": "all clocks jump by {0.seconds:g} s",
    "trouble": "trouble outside (seed {0.seed})",
    "away": "the database is away for {0.seconds:g} s",
    "compact": "compact retry topics and cases{0.point}",
    "redrive": "an operator redrives up to {0.number} open cases (seed {0.seed})",
    "dismiss": "an operator dismisses a case that was redriven and rejected again",
}


class Schedule(msgspec.Struct, frozen=True):
    """What happens before everything heals. `seed` names it; a shortened one keeps the seed of what it was cut from."""

    seed: int
    actions: tuple[Action, ...]


def generate(seed: int, stages: Sequence[str], workers: int) -> Schedule:
    """The schedule of a seed: bursts of events, work, and faults of some kinds, other ones in each run."""
    random = Random(seed)  # noqa: S311  # a simulation has to be repeatable
    kinds = random.sample(sorted(_FAULTS), random.randint(3, 9))
    actions: list[Action] = []
    for _ in range(random.randint(3, 8)):
        if not actions or random.random() < 0.5:
            number = random.choice((1, 3, 10, 30, 60))
            actions.append(Action("produce", number=number, seed=_seed(random)))
        actions += (_fault(random, random.choice(kinds), stages, workers) for _ in range(random.randint(0, 3)))
        actions.append(Action("work", number=random.randint(5, 60), seed=_seed(random)))
        if random.random() < 0.3:
            actions.append(Action("wait", seconds=random.choice((0.5, 3.0, 12.0, 20.0, 61.0))))
    return Schedule(seed, tuple(actions))


def _fault(random: Random, what: str, stages: Sequence[str], workers: int) -> Action:
    who = f"{random.choice(stages)}/{workers if what == 'join' else random.randrange(workers)}"
    return Action(what, who, **{name: draw(random) for name, draw in _FAULTS[what].items()})


def _early(random: Random) -> int:
    """A number of statements: mostly a small one."""
    return min(random.randint(1, 12), random.randint(1, 12))


def _seed(random: Random) -> int:
    return random.getrandbits(32)


def _of(*values: Any) -> Callable[[Random], Any]:
    return lambda random: random.choice(values)


_DOWN: Final = _of(0.0, 0.0, 1.0, 30.0)
_HOW: Final = _of("after", "before")
_FAULTS: Final[Mapping[str, Mapping[str, Callable[[Random], Any]]]] = {
    "crash": {"point": _of(*POINTS), "seconds": _DOWN},
    "crash-sql": {"number": _early, "seconds": _DOWN},
    "lose-sql": {"number": _early},
    "lose-commit": {"point": _HOW},
    "freeze": {"point": _of(*POINTS), "seconds": _of(2.0, 16.0, 25.0, 70.0)},
    "twin": {},
    "abort": {},
    "lose-reply": {"point": _HOW},
    "stop": {"seconds": _DOWN},
    "join": {},
    "skew": {"seconds": _of(-20.0, -1.0, 0.7, 30.0)},
    "jump": {"seconds": _of(5.0, 30.0, 600.0)},
    "trouble": {"seed": _seed},
    "away": {"seconds": _of(0.1, 3.0, 30.0)},
    "compact": {"point": _of("", ", tombstones too")},
    "redrive": {"number": _of(1, 5), "seed": _seed},
    "dismiss": {},
}
"""Each kind of fault, and what is drawn for it."""
