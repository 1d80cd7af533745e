"""The seam to a broker: one Protocol, implemented by `kafka/` and `memory/` and by nothing else.

The one rule: outputs and source offsets are committed together or not at all, and never for a partition that is not owned.

A session belongs to one instance of one stage. The stage's *lead* topic is subscribed; whoever owns partition p of it owns
p of every *other* input and of the *table* (the parking table: compacted, restored on assignment), which are followed.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from streams.errors import Fenced
from streams.record import Output, Record

Place = tuple[str, int]
"""A topic and a partition."""
Stand = tuple[int, str]
"""An offset and its metadata, as a group has committed them."""


_SIGN: Final = " #"


class Inputs(msgspec.Struct, frozen=True):
    """What a session reads: `lead` is subscribed, `others` and `table` follow its partitions."""

    lead: str
    others: tuple[str, ...] = ()
    table: str | None = None

    @property
    def topics(self) -> tuple[str, ...]:
        """The inputs, lead first; not the table."""
        return (self.lead, *self.others)


class Claim(msgspec.Struct, frozen=True):
    """A partition that this session has come to own: where each input starts, and the lead's commit metadata.

    The metadata is empty when the last owner let go of the partition in good order: by `close`, or in a rebalance that it
    took part in. It is what was committed last when the owner died. `waited` is how long it took from the assignment on, in
    seconds.
    """

    partition: int
    offsets: Mapping[str, int]
    metadata: str = ""
    waited: float = 0.0


class Polled(msgspec.Struct):
    """What one poll brought. Take it in this order: `lost`, `table`, `gained`, `records`.

    `table` holds records of the parking table (a null value is a tombstone). A partition is in `gained`, once, when
    everything that its table held at the time of the assignment, up to the high watermark then, has been delivered; no
    input record of it comes before. `records` holds input records of owned partitions, in offset order per topic and
    partition; between the topics of one partition the order is that of their arrival.
    """

    records: list[Record] = []
    table: list[Record] = []
    gained: list[Claim] = []
    lost: frozenset[int] = frozenset()


class Session(Protocol):
    """One member of a stage's group with one transactional producer. Calls block; one thread at a time may call."""

    @property
    def token(self) -> str:
        """Names this life of the session: unique in every process and start.

        A commit of which nobody can say whether it happened ends that life, and another begins.
        """
        ...

    def poll(self, limit: int, timeout: float) -> Polled:
        """Up to `limit` records; waits at most `timeout` seconds for the first.

        Rebalances happen in here and nowhere else. Raises `Fenced`, or `SetupError` where topics do not fit together.
        """
        ...

    def commit(self, outputs: Sequence[Output], offsets: Mapping[Place, int], metadata: str = "") -> None:
        """One transaction: `outputs`, and for each source the next offset to read, with `metadata` on each of them.

        Raises `Aborted` when nothing of it happened and the session stands at its last commit again: what has been polled
        since then will come again and must be forgotten; and `Fenced` when this session is over.
        """
        ...

    def pause(self, partitions: Iterable[int]) -> None:
        """Deliver no more input records of these partitions; their table goes on."""
        ...

    def resume(self, partitions: Iterable[int]) -> None:
        """Take up the inputs of these partitions again."""
        ...

    def close(self) -> None:
        """Leave the group and let go of everything. Never raises; a second call does nothing."""
        ...


def signed(metadata: str, by: str) -> str:
    """The metadata of a commit with the name of that commit: so it is known again where its offsets move nothing."""
    return f"{metadata}{_SIGN}{by}" if metadata else ""


def unsigned(metadata: str) -> str:
    """The metadata of a commit without the name."""
    return metadata.partition(_SIGN)[0]


def happened(before: Mapping[Place, Stand], wanted: Mapping[Place, Stand], now: Mapping[Place, Stand]) -> bool | None:
    """Whether a transaction has: from where the group stood before, was to stand, and stands now that it is decided.

    A transaction is all or nothing, so one place says it. None: in each of its places somebody else has committed since, so
    that none is the session's any more. Raises `Fenced` for one that would not be known again: unsigned, and moving nothing.
    """
    telling = [place for place in wanted if wanted[place] != before[place]]
    if not telling:
        raise Fenced("nobody can say whether the last transaction happened")
    if any(now[place] == wanted[place] for place in telling):
        return True
    return False if any(now[place] == before[place] for place in telling) else None
