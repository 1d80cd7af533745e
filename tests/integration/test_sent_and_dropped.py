"""Records that were sent and not acknowledged when their transaction was given up: the next must not be taken for them."""

import contextlib
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from streams.background import HOST, free_port
from streams.errors import Aborted
from streams.kafka.writer import Writer
from streams.local import LocalKafka
from streams.record import Output
from tests.faults.proxy import Loop, Proxy
from tests.integration.test_undecided import there
from tests.support.kafka import make_topics
from tests.support.workers import wait_for


class Distant(LocalKafka):
    """A broker with one more listener, behind a proxy."""

    def __init__(self, directory: Path, loop: Loop) -> None:
        super().__init__(directory)
        self._behind = free_port(0)
        self.proxy = Proxy(loop, self._behind, free_port(0))

    def _settings(self) -> dict[str, str]:
        settings = super()._settings()
        behind, told = f"FAR://{HOST}:{self._behind}", f"FAR://{HOST}:{self.proxy.port}"
        return {
            **settings,
            "listeners": f"{settings['listeners']},{behind}",
            "advertised.listeners": f"{settings['advertised.listeners']},{told}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,FAR:PLAINTEXT",
        }


@pytest.fixture
def distant(tmp_path: Path) -> Iterator[Distant]:
    with Loop() as loop:
        broker = Distant(tmp_path, loop)
        broker.launch()
        try:
            yield broker
        finally:
            broker.proxy.close()  # while it has something to connect to
            broker.kill()


class Cut:
    """Outputs of a transaction: the second is written, but the leader cannot say so any more; then the transaction fails."""

    def __init__(self, kafka: Distant, topic: str, writer: Writer) -> None:
        self._kafka, self._topic, self._writer = kafka, topic, writer
        self._admin = AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
        self.over = contextlib.ExitStack()

    def _end(self) -> int:
        place = TopicPartition(self._topic, 0)
        return int(self._admin.list_offsets({place: OffsetSpec.latest()})[place].result(30).offset)

    def __iter__(self) -> Iterator[Output]:
        yield Output(self._topic, b"k", b"first")
        assert self._writer._producer.flush(30) == 0  # now the partition is in the transaction, and nothing on its way
        end = self._end()
        self.over.enter_context(self._kafka.proxy.cut("one-way"))
        yield Output(self._topic, b"k", b"second")
        wait_for(lambda: self._end() > end, 10, "the record is not written")
        self.over.enter_context(self._kafka.proxy.cut("refuse"))
        threading.Timer(1.5, self.over.close).start()
        raise KafkaException(KafkaError(KafkaError.COORDINATOR_LOAD_IN_PROGRESS, "as its offsets would be", False, False, True))


def test_a_record_is_not_taken_for_one_that_was_dropped_after_it_had_been_sent(distant: Distant) -> None:
    topic = make_topics(distant.bootstrap, {"out": 1})["out"]
    properties = {"bootstrap.servers": f"{HOST}:{distant.proxy.port}"}
    writer = Writer(properties, "w", logging.getLogger("none"))
    outputs: Any = Cut(distant, topic, writer)
    writer.write([Output(topic, b"k", b"before")])
    with outputs.over, pytest.raises(Aborted, match="as its offsets would be"):
        writer.write(outputs)
    writer.write([Output(topic, b"k", b"done again")])
    writer.write([Output(topic, b"k", b"after")])
    writer.close()
    assert there(distant, topic) == [b"before", b"done again", b"after"]
