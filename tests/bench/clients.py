"""What every loop on librdkafka by hand is told, so that none has better settings than another."""

from typing import Any

from confluent_kafka import Consumer, Producer


def clients(bootstrap: str, group: str, **more: Any) -> tuple[Consumer, Producer]:
    """A consumer of a group and a transactional producer of the same name. `more` is the consumer's, dots as underscores."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.queue.backoff.ms": 5,
            **{name.replace("_", "."): value for name, value in more.items()},
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "transactional.id": group,
            "partitioner": "murmur2_random",
            "linger.ms": 1,
            "retry.backoff.ms": 5,
            "queue.buffering.max.messages": 500_000,
        }
    )
    return consumer, producer
