"""A reader that is none of ours: aiokafka, on a thread of its own.

The one rule: it knows Kafka and nothing of the flow; what it has read is what any client would have read.
"""

import asyncio
import threading
import time
from collections.abc import Coroutine, Sequence
from typing import Any, Self, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition

T = TypeVar("T")


class Reader:
    """Reads topics from their beginning while it is entered. `records` holds what has come, per topic, in order of arrival.

    `arrived` says when each came, in seconds of `time.monotonic`. `isolation`: or `read_uncommitted`.
    """

    def __init__(self, bootstrap: str, topics: Sequence[str], isolation: str = "read_committed") -> None:
        self.records: dict[str, list[Any]] = {topic: [] for topic in topics}
        self.arrived: dict[str, list[float]] = {topic: [] for topic in topics}
        self._isolation = isolation
        self._bootstrap = bootstrap
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="reader", daemon=True)
        self._news = threading.Event()
        self._consumer: Any = None

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._call(self._open())
        except BaseException:
            self._close()
            raise
        self._reading = asyncio.run_coroutine_threadsafe(self._read(), self._loop)
        return self

    def __exit__(self, *_: object) -> None:
        self._reading.cancel()
        self._close()

    def _close(self) -> None:
        try:
            self._call(self._consumer.stop())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def count(self, *topics: str) -> int:
        """How many records of these topics have come."""
        return sum(len(self.records[topic]) for topic in topics)

    def pause(self, seconds: float) -> None:
        """Wait for the next record, at most so long. Raises what the reading has died of."""
        if self._reading.done():
            self._reading.result()
        self._news.wait(seconds)
        self._news.clear()

    def to_end(self, seconds: float = 60) -> None:
        """Read on until everything has come that is committed by now."""
        self._call(self._until(self._call(self._ends()), seconds), seconds + 10)

    def _call(self, work: Coroutine[Any, Any, T], seconds: float = 60) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)

    async def _open(self) -> None:
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            isolation_level=self._isolation,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=100,
        )
        await self._consumer.start()
        async with asyncio.timeout(30):
            while None in (numbers := await self._partitions()).values():  # noqa: ASYNC110  # nobody announces metadata
                await asyncio.sleep(0.05)
        self._consumer.assign([TopicPartition(topic, number) for topic, found in numbers.items() for number in found or ()])

    async def _partitions(self) -> dict[str, set[int] | None]:
        """The partitions of each topic; none of one that this broker has not heard of yet."""
        cluster = await self._consumer._client.fetch_all_metadata()  # without a group it asks for no topic by itself
        return {topic: cluster.partitions_for_topic(topic) for topic in self.records}

    async def _read(self) -> None:
        async for record in self._consumer:
            self.arrived[record.topic].append(time.monotonic())
            self.records[record.topic].append(record)
            self._news.set()

    async def _ends(self) -> dict[Any, int]:
        ends: dict[Any, int] = await self._consumer.end_offsets(self._consumer.assignment())
        return ends

    async def _until(self, ends: dict[Any, int], seconds: float) -> None:
        async with asyncio.timeout(seconds):
            for place, end in ends.items():
                while await self._consumer.position(place) < end:  # noqa: ASYNC110  # a position is not announced
                    await asyncio.sleep(0.05)


def text_headers(record: Any) -> dict[str, str]:
    """A record's headers as text; the last of a name counts."""
    return {name: (value or b"").decode() for name, value in record.headers}
