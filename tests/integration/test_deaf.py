"""A follower that stops reading without a word is replaced, and nothing is read twice or left out."""

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition

from streams import kafka_deaf, topics
from streams.kafka import KafkaSession
from streams.kafka_deaf import Hearing
from streams.local import LocalKafka
from streams.session import Inputs, Place
from tests.support.kafka import make_topics

PLACE: Place = ("in", 0)


@pytest.fixture
def session(kafka: LocalKafka) -> Iterator[KafkaSession]:
    made = make_topics(kafka.bootstrap, {"in": 2, "table": 2})
    name = f"deaf-{uuid.uuid4().hex[:8]}"
    inputs = Inputs(made["in"], (), made["table"])
    session = KafkaSession(inputs, group=name, transactional_id=name, properties={"bootstrap.servers": kafka.bootstrap})
    yield session
    session.close()


def send(kafka: LocalKafka, topic: str, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
    for value in values:
        producer.produce(topic, value, b"k", 0)
    assert producer.flush(30) == 0


def read(session: KafkaSession, done: Callable[[list[bytes], list[bytes]], bool]) -> tuple[list[bytes], list[bytes]]:
    records: list[bytes] = []
    table: list[bytes] = []
    deadline = time.monotonic() + 60
    while not done(records, table):
        assert time.monotonic() < deadline, f"read {records} and of the table {table}"
        polled = session.poll(10, 0.2)
        records += [record.value or b"" for record in polled.records]
        table += [record.value or b"" for record in polled.table]
    return records, table


def test_a_deaf_follower_is_replaced_and_goes_on_where_it_was(session: KafkaSession, kafka: LocalKafka) -> None:
    topic, table = session._reader._followed
    send(kafka, topic, [b"1", b"2"])
    assert read(session, lambda records, _: len(records) == 2) == ([b"1", b"2"], [])
    follower = session._reader._follower
    follower.pause([TopicPartition(topic, 0), TopicPartition(table, 0)])  # as when librdkafka loses a resume
    send(kafka, table, [b"parked"])
    send(kafka, topic, [b"3", b"4"])
    assert read(session, lambda records, parked: len(records) == 2 and len(parked) == 1) == ([b"3", b"4"], [b"parked"])
    assert session._reader._follower is not follower


def test_who_has_read_all_keeps_its_follower(session: KafkaSession, kafka: LocalKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.kafka_reader._LOOK", 0.3)
    topic, _ = session._reader._followed
    follower = session._reader._follower
    for number in range(4):
        send(kafka, topic, [b"%d" % number])
        read(session, lambda records, _: len(records) == 1)
        until = time.monotonic() + 1.5
        read(session, lambda *_: time.monotonic() > until)  # noqa: B023  # called at once
    assert session._reader._follower is follower


class Cluster:
    """An admin client that knows one end, or does not answer."""

    end: int | None = 0

    def __init__(self, *_: object, **__: object) -> None: ...

    def list_offsets(self, wanted: dict[TopicPartition, Any], **_: object) -> dict[TopicPartition, Future[Any]]:
        answer: Future[Any] = Future()
        if self.end is not None:
            answer.set_result(TopicPartition(*PLACE, self.end))
        return dict.fromkeys(wanted, answer)


@pytest.mark.parametrize(
    ("end", "first", "then", "idle", "deaf"),
    [
        (7, 5, 5, True, True),
        (7, 5, 6, True, False),  # it moved
        (7, 7, 7, True, False),  # there is no more
        (7, 5, 5, False, False),  # it has not been asked for all that it has
        (None, 5, 5, True, False),  # nobody knows
    ],
)
def test_deaf_is_who_stands_still_before_the_end(
    monkeypatch: pytest.MonkeyPatch, end: int | None, first: int, then: int, idle: bool, deaf: bool
) -> None:
    monkeypatch.setattr(kafka_deaf, "AdminClient", Cluster)
    monkeypatch.setattr(Cluster, "end", end)
    hearing = Hearing({}, topics.QUIET)
    assert not hearing.look({PLACE: first}, idle=True)
    assert hearing.look({PLACE: then}, idle=idle) == ({PLACE} if deaf else set())
    assert not hearing.look({}, idle=True)
