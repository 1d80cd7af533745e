"""What a topology says of itself so that it can be simulated: who sends what, who is outside, and what must be so at the end.

The one rule: it describes one run and keeps nothing beyond it. All chance comes from the `Random` that it is given.

    workload = Workload(orders, Shop)       # in the topology's module, or in its module `workload`
"""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from random import Random
from typing import Any, Protocol, TypeVar

import msgspec
from sqlalchemy.engine import Connection

from streams.dead import Case
from streams.history import Balance, Effect
from streams.memory.broker import Clock
from streams.stage import Port
from streams.topology import Topology

__all__ = ["Clock", "Ending", "Judgement", "Workload", "World"]  # `Clock` too: a world is given one

E = TypeVar("E")


class Judgement(msgspec.Struct, frozen=True):
    """What the world says of a run that has come to its end.

    `effects` are done things of which there may be one of a kind and key; `balances` sums that have to be equal; `ends` says
    for each key (as text) on which events' topics one of its records has to be.
    """

    effects: Sequence[Effect] = ()
    balances: Sequence[Balance] = ()
    ends: Mapping[str, Set[type]] = {}


class Ending(Protocol):
    """A run that has come to its end, for the world to look at."""

    cases: Sequence[Case]

    def outputs(self, event: type[E]) -> list[E]:
        """All committed events of a class, in order within each partition."""
        ...

    def rows(self, statement: Any) -> list[tuple[Any, ...]]:
        """What an SQLAlchemy statement finds in the stages' database."""
        ...


class World(Protocol):
    """Everything outside of one run: producers, whatever ports connect to, and the knowledge of what has to come of it.

    It outlives crashes: what a port's double has done stays done.
    """

    ports: Mapping[Port[Any], Any]

    def prepare(self, connection: Connection) -> None:
        """Fill the stages' tables before the start."""
        ...

    def produce(self, random: Random, count: int) -> Iterable[Any]:
        """Some `count` events that producers send now: new ones, repeated ones, bad ones."""
        ...

    def trouble(self, random: Random) -> str:
        """Let something outside go wrong from now on, and say what in a few words."""
        ...

    def heal(self) -> None:
        """From now on nothing outside goes wrong any more."""
        ...

    def judge(self, ending: Ending) -> Judgement:
        """What has to be so now, when everything has come to its end."""
        ...


class Workload(msgspec.Struct, frozen=True):
    """How a topology is simulated. `world` is called with the clock of each run.

    `single` are events of which there is at most one for each cause. `workers` is how many of a stage there are usually.
    """

    topology: Topology
    world: Callable[[Clock], World]
    single: Sequence[type] = ()
    workers: int = 2
