"""Deaths: which record keeps killing its process, found by a marker in the commit metadata.

The one rule: nothing is slowed until a process has died without letting go of its partitions.

An owner says `run` before its first record, since it may die of that one, and in every commit; who lets go in good order
leaves nothing (`Claim.metadata`). What is found says how closely to look at the records that the dead had in hand:

- `run`: died of one in a batch. The next owner goes on in small groups, and says `deaths=1` before each.
- `deaths=1`: died of one in a group. The next goes through that one by one, and says `deaths=2 at=<place>` before each.
- `deaths=2 at=<place>`: died of that one. Three deaths had it in hand, of ever fewer: it is condemned.

So only who dies in each of three sets that hold a record condemns it; a commit between two deaths lets the count start anew.
Careful work ends when as many new records are through as the dead could have had, or when an owner has lived for a minute: what
kills is at hand again at once after a restart, so this one died of something else.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final

from streams.record import Record

RUN: Final = "run"
"""The metadata of every ordinary commit."""
_GROUP: Final = "deaths=1"
_ONE: Final = "deaths=2 at="
_FORGET: Final = 60.0  # seconds


class Deaths:
    """What the owners before this one died of, per partition. `batch` is how many records a process has in hand at most."""

    def __init__(self, batch: int) -> None:
        self.pending: dict[int, str] = {}  # markers to be committed before any work
        self.condemned: frozenset[str] = frozenset()  # places of records that are to die
        self._batch = batch
        self._group = math.isqrt(batch)
        self._size: dict[int, int] = {}  # careful partitions: how many records go at once
        self._left: dict[int, int] = {}  # new records until they are careful no more
        self._forget_at: dict[int, float] = {}

    def gained(self, partition: int, metadata: str, now: float) -> None:
        """Read the marker of the last owner. `now` is in seconds."""
        if metadata:
            self._forget_at[partition] = now + _FORGET
        if not metadata:
            self.pending[partition] = RUN
        elif metadata == _GROUP:
            self._size[partition], self._left[partition] = 1, self._group
        else:
            self._size[partition], self._left[partition] = self._group, self._batch
            if metadata.startswith(_ONE):
                self.condemned |= {metadata.removeprefix(_ONE)}

    def lost(self, partition: int) -> None:
        """The partition is another's to worry about."""
        self.pending.pop(partition, None)
        self._size.pop(partition, None)
        self._left.pop(partition, None)
        self._forget_at.pop(partition, None)

    def forgettable(self, now: float) -> bool:
        """Whether this owner has lived for so long that deaths before it count no more."""
        return any(at <= now for at in self._forget_at.values())

    def forget(self, now: float) -> None:
        """Forget such deaths; the markers that say so are in `pending`."""
        for partition in [partition for partition, at in self._forget_at.items() if at <= now]:
            self.lost(partition)
            self.pending[partition] = RUN

    @property
    def careful(self) -> bool:
        """Whether any partition is to be handled in groups."""
        return bool(self._size)

    def group(self, records: Sequence[Record]) -> Sequence[Record]:
        """The first of these, so many as may go in one transaction. A condemned one goes alone: its marker is to stay."""
        size = min(self._size.values(), default=len(records))
        for index, record in enumerate(records[:size]):
            if record.place in self.condemned:
                return records[: max(index, 1)]
        return records[:size]

    def markers(self, group: Sequence[Record]) -> dict[int, str]:
        """What to commit before a group is run, by partition: nothing where nobody died, nor for a condemned record."""
        if len(group) == 1 and group[0].place in self.condemned:
            return {}
        return {
            record.partition: _GROUP if self._size[record.partition] > 1 else f"{_ONE}{record.place}"
            for record in group
            if record.partition in self._size
        }

    def through(self, records: Iterable[Record]) -> None:
        """These new records have had their turn. Careful work ends by count: that nothing is there now says nothing."""
        for record in records:
            left = self._left.get(record.partition, 0) - 1
            if left > 0:
                self._left[record.partition] = left
            else:
                self.lost(record.partition)

    def buried(self, place: str) -> None:
        """A condemned record is dead: redriven, it is run again."""
        self.condemned -= {place}
