"""A worker that is broken on purpose: it commits its offsets by themselves, before the transaction with the work.

The one rule: it exists to show that the suite finds what it is there to find (`test_faults.py`).
"""

import time
from collections.abc import Sequence
from typing import Any, Final

from confluent_kafka import TopicPartition

from streams.cli import main
from streams.kafka_reader import Reader
from streams.kafka_writer import Writer

_WINDOW: Final = 0.05  # seconds between the two, so that a death falls into it
_followers: dict[int, Any] = {}
_write = Writer.write
_init = Reader.__init__


def _remembered(self: Reader, *arguments: Any, **named: Any) -> None:
    _init(self, *arguments, **named)
    _followers[len(_followers)] = self._follower


def _twice(self: Writer, outputs: Sequence[Any], offsets: Sequence[TopicPartition] = (), group: Any = None) -> None:
    topics = {place.topic for place in offsets}
    for follower in _followers.values():
        if topics & {place.topic for place in follower.assignment()}:
            follower.commit(offsets=list(offsets), asynchronous=False)
    time.sleep(_WINDOW)
    _write(self, outputs, offsets, group)


if __name__ == "__main__":
    Reader.__init__ = _remembered  # type: ignore[method-assign]  # that is what is broken
    Writer.write = _twice  # type: ignore[method-assign]  # as above
    main()
