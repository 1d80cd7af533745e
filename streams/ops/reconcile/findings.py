"""What reconciling has found, as it is gathered.

The one rule: a difference is named once, at its root; what follows from it is not a second one.
"""

from collections import Counter
from typing import Any, Final

import msgspec

from streams.books import Difference

SHOWN: Final = 20
"""Ids that one difference names; the rest is a number."""


MOST: Final = 100_000
"""Differences that are listed: more than that have one cause, and people do not read them."""


class Open(msgspec.Struct, frozen=True):
    """What is on its way at a stage: `waits` to be consumed, or is `parked`. `oldest` is in milliseconds since the epoch."""

    stage: str
    state: str
    count: int
    oldest: int | None


class Result(msgspec.Struct):
    """The outcome. `counts`: events by topic; `consumed` and `emitted`: by stage and topic.

    `unknown` says what could not be checked, and why; `unlisted` how many differences there are beyond `MOST`.
    """

    topology: str
    taken_at: int
    differences: list[Difference] = []
    open: list[Open] = []
    unknown: dict[str, int] = {}
    counts: dict[str, int] = {}
    consumed: dict[str, dict[str, int]] = {}
    emitted: dict[str, dict[str, int]] = {}
    receipts: int = 0
    unlisted: int = 0

    @property
    def kinds(self) -> dict[str, int]:
        """How many differences there are of each kind."""
        return dict(Counter(difference.kind for difference in self.differences))

    def blind(self, why: str, count: int = 1) -> None:
        """So many things cannot be checked."""
        if count:
            self.unknown[why] = self.unknown.get(why, 0) + count

    def add(self, kind: str, where: str, ids: tuple[str, ...], **rest: Any) -> None:
        """One more difference."""
        if len(self.differences) >= MOST:
            self.unlisted += 1
            return
        more = (f"and {len(ids) - SHOWN:,} more",) if len(ids) > SHOWN else ()
        self.differences.append(Difference(kind, where, ids[:SHOWN] + more, **rest))
