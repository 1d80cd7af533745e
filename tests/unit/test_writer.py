"""What the writer does when librdkafka does not come back."""

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streams import kafka_writer
from streams.errors import Aborted
from streams.kafka_writer import Writer

SOURCE = [TopicPartition("orders", 0, 1)]


class Producer:
    """The first one hangs in its second `send_offsets_to_transaction`, as with a coordinator that is gone."""

    made: list["Producer"]
    refuses = False
    over: threading.Event

    def __init__(self, _: dict[str, Any], *, logger: logging.Logger) -> None:  # noqa: ARG002  # as librdkafka's
        self.done: list[str] = []
        self.made.append(self)

    def send_offsets_to_transaction(self, *_: Any) -> None:
        if self.made == [self] and "commit" in self.done:
            self.over.wait(60)

    def abort_transaction(self, _: float) -> None:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "no coordinator", False, True))

    def init_transactions(self, _: float) -> None:
        self.done.append("init")

    def begin_transaction(self) -> None:
        self.done.append("begin")

    def commit_transaction(self, _: float) -> None:
        if self.refuses:
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_MEMBER_ID, "a rebalance", False, False, True))
        self.done.append("commit")

    def produce(self, *_: Any, **__: Any) -> None:
        pass

    def poll(self, _: float) -> None:
        pass


@pytest.fixture(autouse=True)
def _double(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    Producer.made, Producer.over = [], threading.Event()
    monkeypatch.setattr(kafka_writer, "Producer", Producer)
    monkeypatch.setattr(kafka_writer, "_HUNG", 0.05)
    monkeypatch.setattr(kafka_writer, "_ABORT", 0.05)
    yield
    Producer.over.set()


def test_a_transaction_whose_offsets_hang_did_not_happen_and_the_next_goes_by_a_new_producer() -> None:
    writer = Writer({}, "w", logging.getLogger("none"))
    writer.write([], SOURCE)
    with pytest.raises(Aborted, match="coordinator is gone"):
        writer.write([], SOURCE)
    writer.write([], SOURCE)
    assert [each.done for each in Producer.made] == [["init", "begin", "commit", "begin"], ["init", "begin", "commit"]]


def test_a_transaction_that_cannot_be_aborted_did_not_happen_and_the_next_goes_by_a_new_producer() -> None:
    writer = Writer({}, "w", logging.getLogger("none"))
    Producer.refuses = True
    with pytest.raises(Aborted, match="a rebalance"):
        writer.write([])
    Producer.refuses = False
    writer.write([])
    assert [each.done for each in Producer.made] == [["init", "begin"], ["init", "begin", "commit"]]
