"""The gate: which partitions are read on, and which are not.

The one rule: a partition is paused while a dependency is away or while too much of it is parked, and for no other reason.
"""

import logging
from typing import Final

import msgspec

from streams.lanes import Lanes
from streams.process import Failure
from streams.session import Session
from streams.stage import Stage

log = logging.getLogger("towpath.gate")

_PROBE_FIRST: Final = 0.2  # seconds until a held stage asks its dependency again; doubled each time
_PROBE_CEILING: Final = 10.0
_FULL_AGAIN: Final = 0.9  # of the limit: below it a paused partition is read again


class Hold(msgspec.Struct, frozen=True):
    """Why a stage takes nothing in: `dependency` is away since `since`; it is asked again at `probe` (seconds, epoch)."""

    dependency: str
    reason: str
    since: float
    probe: float
    probes: int = 0


class Gate:
    """What one stage reads. `partitions` are owned, `full` have too much parked, `hold` is the stage's if it has one."""

    def __init__(self, stage: Stage, session: Session) -> None:
        self.partitions: set[int] = set()
        self.full: set[int] = set()
        self.hold: Hold | None = None
        self._stage = stage
        self._session = session

    def gained(self, partition: int) -> None:
        """A partition has come."""
        self.partitions.add(partition)
        if self.hold:
            self._session.pause([partition])

    def lost(self, partition: int) -> None:
        """A partition has gone."""
        self.partitions.discard(partition)
        self.full.discard(partition)

    def shut(self, away: Failure, now: float) -> None:
        """A dependency is away, or still away: hold the stage and say when to ask again."""
        probes, since = (self.hold.probes + 1, self.hold.since) if self.hold else (0, now)
        wait = away.after if away.after is not None else min(_PROBE_CEILING, _PROBE_FIRST * 2.0 ** min(probes, 30))
        if self.hold is None:
            name = self._stage.name
            log.warning("stage %s holds: %s is unavailable", name, away.dependency, extra={"stage": name})
            self._session.pause(self.partitions)
        self.hold = Hold(away.dependency, away.message, since, now + wait, probes)

    def open(self) -> None:
        """What was asked has answered: go on, if the stage was held."""
        if self.hold:
            name = self._stage.name
            log.info("stage %s goes on: %s is back", name, self.hold.dependency, extra={"stage": name})
            self.hold = None
            self._session.resume(self.partitions - self.full)

    def measure(self, lanes: Lanes) -> None:
        """Pause what has too much parked, and read it again when there is room."""
        stage = self._stage
        parked = lanes.parked()
        for partition in self.partitions & parked.keys():  # not while one is restored: its tombstones may still come
            count, size = parked[partition]
            share = max(count / stage.max_parked, size / stage.max_parked_bytes)
            if share >= 1 and partition not in self.full:
                known = {"stage": stage.name, "partition": partition}
                log.warning(
                    "stage %s: partition %d is paused: %d records are parked", stage.name, partition, count, extra=known
                )
                self.full.add(partition)
                self._session.pause([partition])
            elif share < _FULL_AGAIN and partition in self.full:
                self.full.discard(partition)
                if not self.hold:
                    self._session.resume([partition])
