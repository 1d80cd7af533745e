"""A worker that is broken on purpose: it commits its offsets by themselves, before the transaction with the work.

The one rule: it exists to show that the suite finds what it is there to find (`test_faults.py`).
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from confluent_kafka import KafkaException, TopicPartition

from streams.cli import main
from streams.kafka.session import KafkaSession
from streams.record import Output
from streams.session import Place

_WINDOW: Final = 0.05  # seconds between the two, so that a death falls into it
_commit = KafkaSession.commit


def _twice(self: KafkaSession, outputs: Sequence[Output], offsets: Mapping[Place, int], metadata: str = "") -> None:
    places = [TopicPartition(topic, partition, offset, metadata) for (topic, partition), offset in offsets.items()]
    with suppress(KafkaException):  # a rebalance: the transaction fails as well
        self._reader._member._consumer.commit(offsets=places, asynchronous=False)
    time.sleep(_WINDOW)
    _commit(self, outputs, offsets, metadata)


if __name__ == "__main__":
    KafkaSession.commit = _twice  # type: ignore[method-assign]  # that is what is broken
    main()
