"""The bare loop: what the stage `checking` does, by Towpath's codec and ids, without Towpath's runtime.

The one rule: no lane, no receipt, no verdict, no health: one record that cannot be read ends it.
Run as `python -m tests.bench.loop BOOTSTRAP GROUP SOURCE TARGET`.
"""

import sys

from confluent_kafka import TopicPartition

from streams.codec import Codec
from streams.kafka.record import record_of
from streams.registry import FolderRegistry
from streams.travel import Travel, Writing
from tests.bench.clients import clients
from tests.bench.flow import bench, checking
from tests.bench.throughput import BATCH
from topologies.orders.events import OrderAccepted, OrderRejected, OrderSubmitted
from topologies.orders.intake import judge


def main(bootstrap: str, group: str, source: str, target: str) -> None:
    """Until SIGTERM."""
    consumer, producer = clients(bootstrap, group)
    codec = Codec([OrderSubmitted, OrderAccepted, OrderRejected], FolderRegistry(bench.schemas))
    decode = codec.decoder(OrderSubmitted)
    writings = {cls: Writing(cls, codec) for cls in (OrderAccepted, OrderRejected)}
    producer.init_transactions()
    consumer.subscribe([source])
    while True:
        messages = consumer.consume(BATCH, 0.1)
        if not messages:
            continue
        producer.begin_transaction()
        offsets: dict[int, int] = {}
        for message in messages:
            record = record_of(message)
            result, travel = judge(decode(record.value)), Travel(record)
            output = writings[type(result)].output(result, travel.headers(checking.name, 0), travel.large)
            producer.produce(target, output.value, output.key, headers=list(output.headers))
            offsets[record.partition] = record.offset + 1
        places = [TopicPartition(source, partition, offset) for partition, offset in offsets.items()]
        producer.send_offsets_to_transaction(places, consumer.consumer_group_metadata())
        producer.commit_transaction()


if __name__ == "__main__":
    main(*sys.argv[1:])
