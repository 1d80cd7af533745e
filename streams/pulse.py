"""Whether a stage moves: it polls, or its handlers come to their ends.

The one rule: what waits for a dependency moves, since it goes on polling; what does not come back from a call does not.
"""

import asyncio
from typing import Final

from streams.record import Record
from streams.tally import Spread

SILENT: Final = 300.0
"""Seconds beyond a handler's time limit that a stage in no handler may be without a poll: brokers may be away for a while."""


_LOOK: Final = 0.5  # seconds between two looks at the event loop


async def watch_loop(late: Spread) -> None:
    """Measure how much later than asked for the event loop wakes, for as long as it runs."""
    loop = asyncio.get_running_loop()
    while True:
        asked = loop.time() + _LOOK
        await asyncio.sleep(_LOOK)
        late.add(max(loop.time() - asked, 0.0))


class Pulse:
    """One stage's. `limit` is how long one record may be in a handler's hands, in seconds."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._seen: tuple[int, Record | None] = (0, None)
        self._since = 0.0

    def look(self, polls: int, current: Record | None, now: float) -> str:
        """Why it does not move, "" if it does. `polls` counts them, `current` is what a handler is at, `now` is monotonic."""
        if (polls, current) != self._seen or not polls:  # before its first poll it starts, however long that takes
            self._seen, self._since = (polls, current), now
        busy = now - self._since
        if current is not None and busy > self._limit:
            return f"a handler has been at {current.place} for {busy:.0f} s"
        if busy > self._limit + SILENT:
            return f"it has not polled for {busy:.0f} s: a call to the broker or the database does not return"
        return ""
