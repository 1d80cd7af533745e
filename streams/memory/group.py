"""A consumer group in memory: members, their generations, and who owns which partition.

The one rule: a partition goes to its next owner only after the last one has acknowledged its loss or has expired (KIP-848).
"""

from collections.abc import Callable
from typing import Final

import msgspec

_NONE: Final[frozenset[int]] = frozenset()


class UnknownMember(Exception):
    """The group does not know this member, or knows it in a later generation."""


class Membership(msgspec.Struct, frozen=True):
    """The group metadata that goes with a commit: who commits, in which generation."""

    member: str
    generation: int


class _Member(msgspec.Struct):
    name: str
    seen: float
    generation: int = 0
    owned: set[int] = msgspec.field(default_factory=set)
    target: set[int] = msgspec.field(default_factory=set)


class Group:
    """The coordinator's view of one group that shares `partitions` partitions of one topic.

    A heartbeat is the only sign of life; a member that gives none for `session_timeout` seconds of the clock is removed.
    The assignment is sticky and balanced, and depends on nothing but the order of events.
    """

    def __init__(self, partitions: int, now: Callable[[], float], session_timeout: float) -> None:
        self._partitions = partitions
        self._now = now
        self._timeout = session_timeout
        self._members: dict[str, _Member] = {}
        self._joined = 0
        self._generation = 0

    def join(self) -> Membership:
        """A new member, which owns nothing until its first heartbeat."""
        self._expire()
        self._joined += 1
        member = _Member(f"member-{self._joined}", self._now())
        self._members[member.name] = member
        self._assign()
        return Membership(member.name, member.generation)

    def leave(self, membership: Membership) -> None:
        """Go, and free everything at once. An unknown member may leave too."""
        if self._members.pop(membership.member, None) is not None:
            self._assign()

    def check(self, membership: Membership) -> None:
        """Whether this member may commit: raises `UnknownMember` when it was removed or comes from an older generation."""
        self._expire()
        member = self._members.get(membership.member)
        if member is None or member.generation != membership.generation:
            raise UnknownMember(f"{membership.member} of generation {membership.generation} is not in the group")

    def beat(self, membership: Membership) -> None:
        """A sign of life between two heartbeats, as a client's own thread gives it; it changes nothing else."""
        if (member := self._members.get(membership.member)) is not None:
            member.seen = self._now()

    def heartbeat(self, membership: Membership) -> tuple[Membership, frozenset[int], frozenset[int]]:
        """The member's new generation, the partitions that it gives up with this call, and those that it owns from now on."""
        self.check(membership)
        member = self._members[membership.member]
        member.seen = self._now()
        if member.owned == member.target:  # nearly always
            if member.generation == self._generation:
                return membership, _NONE, _NONE
            member.generation = self._generation
            return Membership(member.name, member.generation), _NONE, _NONE
        revoked = frozenset(member.owned - member.target)
        member.owned -= revoked
        taken = {p for other in self._members.values() for p in other.owned}
        assigned = frozenset(member.target - taken)
        member.owned |= assigned
        member.generation = self._generation
        return Membership(member.name, member.generation), revoked, assigned

    def _expire(self) -> None:
        now, timeout = self._now(), self._timeout
        dead = [name for name, member in self._members.items() if now - member.seen >= timeout]
        for name in dead:
            del self._members[name]
        if dead:
            self._assign()

    def _assign(self) -> None:
        """Each member keeps what it can of its last target; the rest goes to those below their share, in order of joining."""
        self._generation += 1
        members = list(self._members.values())
        if not members:
            return
        share, over = divmod(self._partitions, len(members))
        by_size = sorted(members, key=lambda member: -len(member.target))
        quota = {member.name: share + (rank < over) for rank, member in enumerate(by_size)}
        for member in members:
            member.target = set(sorted(member.target)[: quota[member.name]])
        kept = {p for member in members for p in member.target}
        free = [p for p in range(self._partitions) if p not in kept]
        for member in members:
            while free and len(member.target) < quota[member.name]:
                member.target.add(free.pop(0))
