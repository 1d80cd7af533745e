"""Reading a cluster from outside: the records of topics as they come.

The one rule: a reader belongs to no group and commits nothing; nobody notices that it reads.
"""

from collections.abc import Sequence
from typing import Final, Self

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from streams import topics
from streams.config import Settings
from streams.errors import SetupError
from streams.kafka.record import record_of
from streams.record import Record
from streams.session import Place

_TRANSIENT: Final = (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._RESOLVE, KafkaError._TIMED_OUT)


class Reader:
    """Committed records of whole topics, as they come. As a context manager it is closed at the end.

    Raises `SetupError` for a cluster that does not answer and for topics that do not exist.
    """

    def __init__(self, settings: Settings, names: Sequence[str], *, from_beginning: bool) -> None:
        counts = topics.partition_counts(topics.connect(settings), names)
        places = [(topic, partition) for topic, count in counts.items() for partition in range(count)]
        wanted = topics.properties(
            settings,
            {
                "group.id": "towpath-reader",  # librdkafka wants one; it is never joined
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "fetch.queue.backoff.ms": 5,
                "queued.max.messages.kbytes": 16384,  # per partition: the default of 64 MiB is much for a look
            },
        )
        wanted.pop("group.protocol", None)  # of no use without a group, and not every value goes with `assign`
        try:
            self._consumer = Consumer(wanted, logger=topics.QUIET)
        except KafkaException as error:
            raise topics.refused(error) from None
        start = OFFSET_BEGINNING if from_beginning else OFFSET_END
        self._consumer.assign([TopicPartition(topic, partition, start) for topic, partition in places])
        self._unfinished: set[Place] = set(places)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    @property
    def at_end(self) -> bool:
        """Whether each partition has been read to its end once."""
        return not self._unfinished

    def read(self, limit: int = 500, timeout: float = 0.5) -> list[Record]:
        """Up to `limit` records; waits at most `timeout` seconds for the first. Brokers that go away are waited for."""
        first = self._consumer.consume(1, timeout)
        messages = [*first, *self._consumer.consume(limit - 1, 0)] if first and limit > 1 else first
        return [record for message in messages if (record := self._record(message))]

    def _record(self, message: Message) -> Record | None:
        if error := message.error():
            if error.code() == KafkaError._PARTITION_EOF:
                self._unfinished.discard((str(message.topic()), int(message.partition())))
            elif error.code() not in _TRANSIENT:
                raise SetupError(f"{message.topic() or 'the cluster'} cannot be read: {error.str()}")
            return None
        return record_of(message)
