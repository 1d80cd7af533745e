"""Deaths: which record keeps killing its process, found by a marker in the commit metadata.

The one rule: nothing is slowed until a process has died without letting go of its partitions.

An owner says `run` before its first record, since it may die of that one, and in every commit; who lets go in good order
leaves nothing (`Claim.metadata`). An owner that reads `run` knows of one death, says so, and works as ever. If it dies too,
the next works record by record, and before each commits which one it is at. The third death on one record condemns it.
Careful work ends when all that the dead could have had in hand is through.

Deaths are forgotten when an owner has lived for a minute: what kills is at hand again at once after a restart, so this one
died of something else, and two deaths with a quiet month between them are no reason to suspect the next record.
"""

from typing import Final

from streams.record import Record

RUN: Final = "run"
"""The metadata of every ordinary commit."""
_FATAL: Final = 3
_FORGET: Final = 60.0  # seconds


class Deaths:
    """What the owners before this one died of, per partition. `batch` is how many records a process has in hand at most."""

    def __init__(self, batch: int) -> None:
        self.pending: dict[int, str] = {}  # markers to be committed before any work
        self.condemned: frozenset[str] = frozenset()  # places of records that are to die
        self._batch = batch
        self._known: dict[int, int] = {}  # careful partitions: deaths that no record is named for
        self._named: dict[str, int] = {}  # deaths by the record's place
        self._left: dict[int, int] = {}
        self._forget_at: dict[int, float] = {}

    def gained(self, partition: int, metadata: str, now: float) -> None:
        """Read the marker of the last owner. `now` is in seconds."""
        if metadata:
            self._forget_at[partition] = now + _FORGET
        if metadata in ("", RUN):
            self.pending[partition] = "deaths=1" if metadata else RUN
            return
        count, _, place = metadata.removeprefix("deaths=").partition(" at=")
        deaths = int(count) + 1 if count.isdecimal() else 1
        self._left[partition] = self._batch
        self._known[partition] = 0 if place else deaths
        if place:
            self._named[place] = deaths
            if deaths >= _FATAL:
                self.condemned |= {place}

    def lost(self, partition: int) -> None:
        """The partition is another's to worry about."""
        self.pending.pop(partition, None)
        self._known.pop(partition, None)
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
        """Whether any partition is to be handled record by record."""
        return bool(self._known)

    def marker(self, record: Record) -> str | None:
        """What to commit before this record is run; `None` where nobody died, and for a condemned record."""
        if record.partition not in self._known or record.place in self.condemned:
            return None
        return f"deaths={self._named.get(record.place, self._known[record.partition])} at={record.place}"

    def through(self, record: Record) -> None:
        """This record's transaction has happened. Careful work ends by count: that nothing is there now says nothing."""
        self._named.pop(record.place, None)
        left = self._left.get(record.partition, 0) - 1
        if left > 0:
            self._left[record.partition] = left
        else:
            self.lost(record.partition)

    def buried(self, place: str) -> None:
        """A condemned record is dead: redriven, it is run again."""
        self.condemned -= {place}
