"""FastStream in batches, on confluent-kafka: at least once, as it knows no transaction of offsets and outputs.

`python -m tests.bench.peers.fast BOOTSTRAP GROUP SOURCE TARGET`. Its batch publishing has one set of headers for a whole batch,
so each record is published by itself, and all are waited for before the batch is acknowledged.
"""

import asyncio
import sys
from typing import Any

from faststream import AckPolicy, FastStream
from faststream.confluent import KafkaBroker, KafkaMessage

from tests.bench.peers.work import BATCH, check, headers


def main(bootstrap: str, group: str, source: str, target: str) -> None:
    """Until it is killed."""
    broker = KafkaBroker(bootstrap, logger=None)

    @broker.subscriber(
        source, group_id=group, batch=True, max_records=BATCH, auto_offset_reset="earliest", ack_policy=AckPolicy.ACK
    )
    async def handle(_values: list[bytes], message: KafkaMessage) -> None:
        waiting: list[Any] = []
        for raw in message.raw_message:
            key, value = check(raw.value())
            sent = {name: text.decode() for name, text in headers(source, raw.partition(), raw.offset(), raw.headers())}
            waiting.append(await broker.publish(value, target, key=key, headers=sent, no_confirm=True))
        await asyncio.gather(*waiting)

    asyncio.run(FastStream(broker).run())


if __name__ == "__main__":
    main(*sys.argv[1:])
