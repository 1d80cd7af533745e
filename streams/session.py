"""The seam to a broker: one Protocol, implemented by `kafka.py` and `memory.py` and by nothing else.

The one rule: outputs and source offsets are committed together or not at all, and never for a partition that is not owned.

A session belongs to one instance of one stage. The stage's *lead* topic is subscribed; whoever owns partition p of it owns
p of every *other* input and of the *table* (the parking table: compacted, restored on assignment), which are followed.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from streams.record import Output, Record

Place = tuple[str, int]
"""A topic and a partition."""


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

    token: str
    """Names this life of the session: unique in every process and start."""

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
