"""A consumer that goes on behind what was not committed, as librdkafka's may when leaders change, does not lose it."""

import uuid
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer, TopicPartition

from streams.errors import Aborted, Fenced
from streams.kafka.follower import Follower
from streams.kafka.session import KafkaSession
from streams.local import LocalKafka
from streams.record import Output
from streams.session import Inputs
from tests.support.kafka import make_topics

_OVERSIZE = 5_000_000  # bytes; the producer takes no such record, so the transaction is aborted


@pytest.fixture
def topic(kafka: LocalKafka) -> str:
    made = make_topics(kafka.bootstrap, {"in": 1})
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
    for value in (b"1", b"2", b"3", b"4"):
        producer.produce(made["in"], value, b"k", 0)
    assert producer.flush(30) == 0
    return made["in"]


@pytest.fixture
def session(kafka: LocalKafka, topic: str) -> Iterator[KafkaSession]:
    name = f"uncommitted-{uuid.uuid4().hex[:8]}"
    session = KafkaSession(Inputs(topic), group=name, transactional_id=name, properties={"bootstrap.servers": kafka.bootstrap})
    yield session
    session.close()


def take(session: KafkaSession, count: int) -> list[bytes | None]:
    values: list[bytes | None] = []
    while len(values) < count:  # pytest's time limit ends a wait in vain
        values += [record.value for record in session.poll(count - len(values), 0.2).records]
    return values


def abort(session: KafkaSession, topic: str) -> None:
    with pytest.raises(Aborted):
        session.commit([Output(topic, b"k", b"x" * _OVERSIZE)], {(topic, 0): 4})


def test_what_was_not_committed_comes_again(session: KafkaSession, topic: str) -> None:
    take(session, 1)
    session.commit([], {(topic, 0): 1})
    assert take(session, 2) == [b"2", b"3"]
    abort(session, topic)
    assert take(session, 1) == [b"2"]
    abort(session, topic)
    assert take(session, 3) == [b"2", b"3", b"4"]


@pytest.mark.parametrize("behind", [1, 3], ids=["a record", "the end"])
def test_a_consumer_that_passes_it_over_ends_the_session(
    session: KafkaSession, topic: str, behind: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(session, 2)
    session.commit([], {(topic, 0): 1})
    take(session, 1)
    renew = Follower.renew

    def go_on(follower: Follower) -> None:
        renew(follower)
        follower._consumer.assign([TopicPartition(topic, 0, 1 + behind)])

    monkeypatch.setattr(Follower, "renew", go_on)
    abort(session, topic)
    with pytest.raises(Fenced, match="the record at 1 was read and not committed, and is not there again"):
        take(session, 3)
