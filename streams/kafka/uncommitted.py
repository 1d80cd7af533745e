"""What a session has handed out since its last commit: after a rewind it must all come again.

The one rule: a record that was handed out and not committed is never passed over. A consumer that goes on behind it would
lose it with the next commit, and nothing in Kafka tells: gaps between offsets are ordinary, control records leave them.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable

from streams.errors import Fenced
from streams.session import Place


class Uncommitted:
    """The offsets that were handed out since the last commit, by place and in order. After `rewind` they are expected again."""

    def __init__(self) -> None:
        self._handed: defaultdict[Place, list[int]] = defaultdict(list)
        self._next: dict[Place, int] = {}  # which of them must come now; a place that is not here goes on with new ones

    def hand_out(self, place: Place, offset: int) -> None:
        """This record goes out. Raises `Fenced` when another should have come before it."""
        if place in self._next:
            self._expect(place, offset)
        else:
            self._handed[place].append(offset)

    def end(self, place: Place, offset: int) -> None:
        """The place has an end at `offset`. Raises `Fenced` when a record before it should have come."""
        if place in self._next and (due := self._handed[place][self._next[place]]) < offset:
            _missing(place, due, f"the end at {offset}")

    def committed(self, place: Place, offset: int) -> None:
        """What is before `offset` is over."""
        handed = self._handed[place]
        over = bisect_left(handed, offset)
        del handed[:over]
        if place in self._next:
            self._await(place, max(self._next[place] - over, 0))

    def rewind(self) -> None:
        """All of it must come again."""
        for place in self._handed:
            self._await(place, 0)

    def forget(self, places: Iterable[Place]) -> None:
        """These are another's now."""
        for place in places:
            self._handed.pop(place, None)
            self._next.pop(place, None)

    def _expect(self, place: Place, offset: int) -> None:
        at = self._next[place]
        if (due := self._handed[place][at]) != offset:
            _missing(place, due, str(offset))
        self._await(place, at + 1)

    def _await(self, place: Place, at: int) -> None:
        if at < len(self._handed[place]):
            self._next[place] = at
        else:
            self._next.pop(place, None)


def _missing(place: Place, due: int, came: str) -> None:
    topic, partition = place
    raise Fenced(
        f"{topic}[{partition}]: the record at {due} was read and not committed, and is not there again: {came} came in its "
        "place; the next start reads on from what was committed"
    )
