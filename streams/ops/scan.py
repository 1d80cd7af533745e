"""Reading chosen partitions from chosen offsets to where they end, and later on from there.

The one rule: an end is an offset that the cluster named, and the reader is there when it has passed it: records of aborted
transactions and markers, which nobody is shown, may be the last.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Self

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from streams import topics
from streams.config import Settings
from streams.errors import SetupError
from streams.kafka.record import record_of
from streams.record import Record
from streams.session import Place

_TRANSIENT: Final = (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._RESOLVE, KafkaError._TIMED_OUT)
CLOCKS: Final = 60_000
"""Milliseconds that the clocks of producers, workers and brokers may differ: who reads from a time on begins so much before."""
_ANSWER: Final = 30.0  # seconds for one question to the cluster
_PATIENCE: Final = 90.0  # seconds without news from a partition: more than a dead process's transaction stays undecided


class Scan:
    """Committed records of some partitions. It belongs to no group and commits nothing.

    `next` says per place where it goes on. As a context manager it is closed at the end.
    """

    def __init__(self, settings: Settings, admin: AdminClient, names: Iterable[str]) -> None:
        """Ready to read these topics from their beginning. Raises `SetupError` for one that does not exist."""
        counts = topics.partition_counts(admin, list(names))
        self.next: dict[Place, int] = {(topic, partition): 0 for topic in counts for partition in range(counts[topic])}
        self._admin = admin
        wanted = topics.properties(
            settings,
            {
                "group.id": "towpath-reader",  # librdkafka wants one; it is never joined
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",  # what is no longer kept is passed over
                "enable.partition.eof": True,
                "fetch.queue.backoff.ms": 5,
                "fetch.wait.max.ms": 50,
                "queued.max.messages.kbytes": 16384,
            },
        )
        wanted.pop("group.protocol", None)  # of no use without a group, and not every value goes with `assign`
        try:
            self._consumer = Consumer(wanted, logger=topics.QUIET)
        except KafkaException as error:
            raise topics.refused(error) from None
        self.seek(self.next)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def seek(self, places: Mapping[Place, int]) -> None:
        """Read these places and no others, from these offsets."""
        self.next = dict(places)
        self._consumer.assign([TopicPartition(*place, offset) for place, offset in places.items()])

    def since(self, places: Mapping[Place, int]) -> dict[Place, int]:
        """For each place the first offset at or after a time (ms since the Unix epoch), or its end."""
        asked = [TopicPartition(*place, max(millis, 0)) for place, millis in places.items()]
        try:
            found = self._consumer.offsets_for_times(asked, _ANSWER)
        except KafkaException as error:
            raise SetupError(f"the cluster does not answer: {error.args[0].str()}", fix="try again") from None
        ends = self.ends(places, decided=False)
        return {(at.topic, at.partition): at.offset if at.offset >= 0 else ends[at.topic, at.partition] for at in found}

    def ends(self, places: Iterable[Place], *, decided: bool) -> dict[Place, int]:
        """Where places end: before the first transaction that is still open, or, if it is to be `decided`, behind all."""
        level = IsolationLevel.READ_UNCOMMITTED if decided else IsolationLevel.READ_COMMITTED
        wanted = {TopicPartition(*place): OffsetSpec.latest() for place in places}
        try:
            answers = self._admin.list_offsets(wanted, isolation_level=level, request_timeout=_ANSWER)
            return {(at.topic, at.partition): answer.result().offset for at, answer in answers.items()}
        except KafkaException as error:
            raise SetupError(f"the cluster does not answer: {error.args[0].str()}", fix="try again") from None

    def begins(self, places: Iterable[Place]) -> dict[Place, int]:
        """The first offset of each place that is still kept."""
        wanted = {TopicPartition(*place): OffsetSpec.earliest() for place in places}
        try:
            answers = self._admin.list_offsets(wanted, request_timeout=_ANSWER)
            return {(at.topic, at.partition): answer.result().offset for at, answer in answers.items()}
        except KafkaException as error:
            raise SetupError(f"the cluster does not answer: {error.args[0].str()}", fix="try again") from None

    def to_end(self, *, decided: bool = False) -> Iterator[Record]:
        """Everything from `next` to the ends as they are now; see `ends`. Brokers that go away are waited for."""
        return self.to(self.ends(self.next, decided=decided))

    def to(self, ends: Mapping[Place, int]) -> Iterator[Record]:
        """Everything from `next` to these ends, and maybe some of what is behind them: who wants no more looks at offsets."""
        unread = {place for place, at in self.next.items() if at < ends.get(place, 0)}
        news = time.monotonic()
        while unread:
            for record in self.poll(0.2):
                news = time.monotonic()
                yield record
            unread = {place for place in unread if self.next[place] < ends[place]}
            if time.monotonic() - news > _PATIENCE:
                topic, partition = min(unread)
                raise SetupError(
                    f"{topic}[{partition}] does not end: a transaction in it stays open",
                    fix="see who holds it with `kafka-transactions.sh find-hanging`, then try again",
                )

    def poll(self, timeout: float) -> list[Record]:
        """What comes within `timeout` seconds, up to 500 records."""
        first = self._consumer.consume(1, timeout)
        messages = [*first, *self._consumer.consume(499, 0)] if first else []
        return [record for message in messages if (record := self._record(message)) is not None]

    def _record(self, message: Message) -> Record | None:
        error = message.error()
        if error is None:
            record = record_of(message)
            self.next[record.topic, record.partition] = record.offset + 1
            return record
        if error.code() == KafkaError._PARTITION_EOF:
            place = (message.topic(), message.partition())
            self.next[place] = max(self.next.get(place, 0), message.offset())
        elif error.code() not in _TRANSIENT:
            raise SetupError(f"{message.topic() or 'the cluster'} cannot be read: {error.str()}")
        return None


def committed(admin: AdminClient, groups: Iterable[str]) -> dict[str, dict[Place, int]]:
    """Per group the next offset to read of each place, as decided transactions left it; nothing for one that never was.

    Raises `SetupError` where one cannot be read: "nothing committed" would be another answer.
    """
    asked = {group: admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group] for group in groups}
    offsets = {}
    for group, future in asked.items():
        try:
            found = future.result().topic_partitions
            if failed := next((place.error for place in found if place.error is not None), None):
                raise KafkaException(failed)
        except KafkaException as error:
            raise SetupError(f"the offsets of {group} cannot be read: {error.args[0].str()}", fix="try again") from None
        offsets[group] = {(place.topic, place.partition): place.offset for place in found if place.offset >= 0}
    return offsets
