"""The measure of everything: a bare librdkafka loop that copies one topic to another, exactly once.

The one rule: it does what any exactly-once stage has to do (read, write with headers, offsets, commit) and nothing else,
with the settings that are best for it. Run as `python -m tests.bench.bare BOOTSTRAP GROUP SOURCE TARGET BATCH`.
"""

import signal
import sys
from typing import Any

from confluent_kafka import TopicPartition

from tests.bench.clients import clients


def copy(bootstrap: str, group: str, source: str, target: str, batch: int) -> None:
    """Copy until SIGTERM. Says `ready` when it owns its partitions."""
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    consumer, producer = clients(bootstrap, group, group_protocol="consumer")
    producer.list_topics(target)
    producer.init_transactions()
    consumer.subscribe([source], on_assign=lambda *_: print("ready", flush=True))  # noqa: T201  # the parent reads it
    while not stopped:
        messages = consumer.consume(1, 0.1)
        if messages:
            _transaction(producer, consumer, target, messages + consumer.consume(batch - 1, 0))
    consumer.close()


def _transaction(producer: Any, consumer: Any, target: str, messages: list[Any]) -> None:
    producer.begin_transaction()
    offsets: dict[tuple[str, int], int] = {}
    for message in messages:
        if message.error():
            raise SystemExit(message.error().str())
        producer.produce(target, message.value(), message.key(), headers=message.headers() or [])
        offsets[message.topic(), message.partition()] = message.offset() + 1
    places = [TopicPartition(topic, partition, offset) for (topic, partition), offset in offsets.items()]
    producer.send_offsets_to_transaction(places, consumer.consumer_group_metadata())
    producer.commit_transaction()


if __name__ == "__main__":
    _, where, name, origin, goal, size = sys.argv
    copy(where, name, origin, goal, int(size))
