"""A reader of the flow's topics that lives through whatever befalls the brokers: a plain librdkafka consumer, on a thread.

The one rule: it belongs to no group, asks no worker, and keeps what it has read in the order of its coming.

(aiokafka, which reads in the other suites, does not always find a partition's new leader while the old one is away: a round
would seem to stand still that does not.)
"""

import threading
import time
from collections.abc import Sequence
from typing import Any, Self

import msgspec
from confluent_kafka import Consumer, IsolationLevel, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from tests.support.workers import wait_for


class Read(msgspec.Struct, frozen=True):
    """A record as it was read."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: Any  # bytes; None on a retry topic only
    headers: tuple[tuple[str, bytes | None], ...]


class Tap:
    """Reads topics from their beginning while it is entered. `arrived` says when each came, in seconds of `time.monotonic`."""

    def __init__(self, bootstrap: str, topics: Sequence[str], isolation: str = "read_committed") -> None:
        self.records: dict[str, list[Read]] = {topic: [] for topic in topics}
        self.arrived: dict[str, list[float]] = {topic: [] for topic in topics}
        self._bootstrap = bootstrap
        self._isolation = IsolationLevel[isolation.upper()]
        self._places: list[Any] = []
        self._reached: dict[tuple[str, int], int] = {}
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "none",  # librdkafka wants one; it is never joined
                "isolation.level": isolation,
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 100,
                "reconnect.backoff.max.ms": 1000,
                "topic.metadata.refresh.interval.ms": 5000,
                "log_level": 0,
            }
        )
        self._failure = ""
        self._stopped = threading.Event()
        self._news = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tap", daemon=True)

    def __enter__(self) -> Self:
        known = self._consumer.list_topics(timeout=60).topics
        self._places = [TopicPartition(topic, number, 0) for topic in self.records for number in known[topic].partitions]
        self._consumer.assign(self._places)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._consumer.close()

    def count(self, *topics: str) -> int:
        """How many records of these topics have come."""
        return sum(len(self.records[topic]) for topic in topics)

    def pause(self, seconds: float) -> None:
        """Wait for the next record, at most so long."""
        assert not self._failure, self._failure
        self._news.wait(seconds)
        self._news.clear()

    def to_end(self, seconds: float = 60) -> None:
        """Read on until everything has come that is there by now (for a committed reader: that is decided)."""
        admin = AdminClient({"bootstrap.servers": self._bootstrap, "log_level": 0})  # the consumer serves one thread
        wanted = dict.fromkeys(self._places, OffsetSpec.latest())
        answers = admin.list_offsets(wanted, isolation_level=self._isolation, request_timeout=seconds)
        ends = {(place.topic, place.partition): answer.result().offset for place, answer in answers.items()}
        wait_for(lambda: all(self._reached.get(place, 0) >= end for place, end in ends.items()), seconds, "not read to the end")

    def _run(self) -> None:
        while not self._stopped.is_set():
            for message in self._consumer.consume(500, 0.1):
                self._take(message)

    def _take(self, message: Any) -> None:
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                self._reached[topic, partition] = offset
            elif error.fatal() or error.code() == KafkaError._AUTO_OFFSET_RESET:
                self._failure = error.str()
            return
        headers = tuple(message.headers() or ())
        read = Read(topic, partition, offset, message.key(), message.value(), headers)
        self._reached[topic, partition] = offset + 1
        self.arrived[topic].append(time.monotonic())
        self.records[topic].append(read)
        self._news.set()
