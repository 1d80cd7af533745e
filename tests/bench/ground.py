"""What every benchmark stands on: a real Kafka with the order flow's topics, and orders to fill them with.

The one rule: what is measured and what it is measured against get the same records from the same broker.
"""

import gzip
import itertools
import json
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec
from confluent_kafka import OFFSET_INVALID, Consumer, KafkaException, Producer, TopicPartition

from streams import topics
from streams.codec import Codec
from streams.config import Settings
from streams.local import LocalKafka
from streams.record import Headers, event_info
from streams.registry import FolderRegistry
from tests.bench.flow import bench
from topologies.orders import orders as flow
from topologies.orders.events import OrderLine, OrderSubmitted

PARTITIONS: Final = flow.partitions
LINES: Final = 5
HEADERS: Final[Headers] = (("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), ("shop", b"330"))
SUBMITTED: Final = event_info(OrderSubmitted).topic
_SAMPLE: Final = Path(__file__).parents[2] / "topologies" / "orders" / "data" / "baskets.jsonl.gz"


class Ground(msgspec.Struct):
    """A broker that is up, where the order flow's topics are, and a directory for logs and stores."""

    bootstrap: str
    directory: Path
    admin: Any
    observers: dict[str, Any] = {}

    def settings(self, name: str, store: str = "") -> Settings:
        """A worker's settings, with a directory of its own."""
        home = self.directory / name
        home.mkdir(exist_ok=True)
        return Settings(bootstrap=self.bootstrap, store=store, directory=home)

    def make_topics(self, names: Iterable[str]) -> None:
        """Topics as plain as the flow's event topics."""
        specs = [topics.TopicSpec(name, PARTITIONS) for name in names]
        topics.apply(specs, self.admin)

    def committed(self, group: str, topic: str) -> int:
        """How many records of a topic a group has behind it."""
        with suppress(KafkaException):
            return sum(max(0, place.offset) for place in self._observer(group).committed(_places(topic), 10))
        return 0

    def count(self, topic: str) -> int:
        """How many records a topic of writers without transactions holds."""
        return sum(self._observer("bench").get_watermark_offsets(place, 10)[1] for place in _places(topic))

    def rewind(self, group: str, topic: str, partitions: int = PARTITIONS) -> int:
        """Let an empty group begin a topic anew, or only so many partitions of it; the others are behind it.

        Returns how many records it has before it.
        """
        ends = [self._observer("bench").get_watermark_offsets(place, 10)[1] for place in _places(topic)]
        starts = [0 if place < partitions else end for place, end in enumerate(ends)]
        places = [TopicPartition(topic, place, start) for place, start in enumerate(starts)]
        deadline = time.monotonic() + 60
        while True:  # a member that has left is still there for a moment
            try:
                self._observer(group).commit(offsets=places, asynchronous=False)
                return sum(ends[:partitions])
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def _observer(self, group: str) -> Any:
        """A consumer that joins no group. Not an admin client: that one crashes if the group's coordinator is being found.

        See librdkafka issue 5040.
        """
        if group not in self.observers:
            wanted = {"bootstrap.servers": self.bootstrap, "group.id": group, "enable.auto.commit": False}
            self.observers[group] = Consumer(wanted)
        return self.observers[group]


def _places(topic: str) -> list[TopicPartition]:
    return [TopicPartition(topic, partition, OFFSET_INVALID) for partition in range(PARTITIONS)]


@contextmanager
def ground() -> Iterator[Ground]:
    """A fresh broker; it and all that it holds is gone at the end."""
    with TemporaryDirectory(prefix="towpath-bench-") as name, LocalKafka.start(Path(name) / "kafka") as kafka:
        admin = topics.connect(Settings(bootstrap=kafka.bootstrap))
        topics.apply([*topics.plan(flow), *(spec for spec in topics.plan(bench) if spec.name.startswith(bench.name))], admin)
        found = Ground(kafka.bootstrap, Path(name), admin)
        try:
            yield found
        finally:
            for observer in found.observers.values():
                observer.close()


def some_orders(count: int, prefix: str) -> Iterator[OrderSubmitted]:
    """Orders of five lines each, made of the sample's own products; nothing is wrong with any of them."""
    with gzip.open(_SAMPLE) as packed:
        sample = [json.loads(line) for line in itertools.islice(packed, 2000)]
    lines = [
        msgspec.convert(line, OrderLine)
        for order in sample
        for line in order["lines"]
        if 0 < line["quantity"] < 1000 and line["amount_minor"] > 0
    ]
    draw = random.Random(7)
    placed = datetime(2017, 1, 1, 11, 53, 26, tzinfo=UTC)
    for number in range(count):
        order_id, customer = f"{prefix}{number:08d}", str(number % 2000)
        yield OrderSubmitted(order_id, customer, "330", placed, "USD", tuple(draw.sample(lines, LINES)))


def encoded(orders: Iterable[OrderSubmitted]) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of each."""
    encode = Codec([OrderSubmitted], FolderRegistry(flow.schemas)).encoder(OrderSubmitted)
    return ((order.order_id.encode(), encode(order)) for order in orders)


def preload(bootstrap: str, topic: str, records: Iterable[tuple[bytes, bytes]], headers: Headers = HEADERS) -> None:
    """Fill a topic."""
    producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "linger.ms": 20})
    for key, value in records:
        while True:
            try:
                producer.produce(topic, value, key, headers=list(headers))
                break
            except BufferError:
                producer.poll(0.1)
    while producer.flush(1.0):
        pass


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of all values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
