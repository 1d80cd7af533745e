"""aiokafka by hand: consume, transform, produce in transactions.

`python -m tests.bench.peers.aio BOOTSTRAP GROUP SOURCE TARGET`.
"""

import asyncio
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.bench.peers.work import BATCH, check, headers


async def main(bootstrap: str, group: str, source: str, target: str) -> None:
    """Until it is killed."""
    consumer = AIOKafkaConsumer(
        source,
        bootstrap_servers=bootstrap,
        group_id=group,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=group, linger_ms=1, max_batch_size=262_144)
    async with consumer, producer:
        while True:
            found = await consumer.getmany(timeout_ms=100, max_records=BATCH)
            if not found:
                continue
            async with producer.transaction():
                for place, records in found.items():
                    for record in records:
                        key, value = check(record.value)
                        sent = headers(source, place.partition, record.offset, record.headers)
                        await producer.send(target, value, key, headers=sent)
                offsets = {place: records[-1].offset + 1 for place, records in found.items()}
                await producer.send_offsets_to_transaction(offsets, group)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
