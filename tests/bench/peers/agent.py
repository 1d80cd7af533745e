"""Faust's own agent: at least once; its exactly-once is not to be had with this client.

`python -m tests.bench.peers.agent BOOTSTRAP GROUP SOURCE TARGET`.
"""

import sys
from typing import Any

import faust

from tests.bench.peers.work import check, headers


def main(bootstrap: str, group: str, source: str, target: str) -> None:
    """Until it is killed."""
    app = faust.App(
        group,
        broker=f"kafka://{bootstrap}",
        store="memory://",
        web_enabled=False,
        topic_disable_leader=True,
        broker_commit_interval=0.5,
        producer_linger=0.005,
        producer_max_batch_size=262_144,
        consumer_auto_offset_reset="earliest",
    )
    orders = app.topic(source, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
    accepted = app.topic(target, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")

    @app.agent(orders)
    async def handle(stream: Any) -> None:
        async for event in stream.events():
            message = event.message
            key, value = check(event.value)
            sent = headers(source, message.partition, message.offset, message.headers)
            await accepted.send(key=key, value=value, headers=dict(sent))

    app.finalize()
    worker = faust.Worker(app, loglevel="WARNING")
    worker.execute_from_commandline()


if __name__ == "__main__":
    main(*sys.argv[1:])
