"""librdkafka by hand: the shortest exactly-once loop that does the work.

`python -m tests.bench.peers.hand BOOTSTRAP GROUP SOURCE TARGET`.
"""

import sys

from confluent_kafka import TopicPartition

from tests.bench.clients import clients
from tests.bench.peers.work import BATCH, check, headers


def main(bootstrap: str, group: str, source: str, target: str) -> None:
    """Until it is killed."""
    consumer, producer = clients(bootstrap, group)
    producer.init_transactions()
    consumer.subscribe([source])
    while True:
        messages = consumer.consume(BATCH, 0.1)
        if not messages:
            continue
        producer.begin_transaction()
        offsets: dict[int, int] = {}
        for message in messages:
            key, value = check(message.value())
            partition, offset = message.partition(), message.offset()
            producer.produce(target, value, key, headers=headers(source, partition, offset, message.headers()))
            offsets[partition] = offset + 1
        places = [TopicPartition(source, partition, offset) for partition, offset in offsets.items()]
        producer.send_offsets_to_transaction(places, consumer.consumer_group_metadata())
        producer.commit_transaction()


if __name__ == "__main__":
    main(*sys.argv[1:])
