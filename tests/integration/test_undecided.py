"""A commit that is not answered: a new producer decides the transaction, and the group's offsets say how."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from streams.errors import Aborted, Fenced
from streams.kafka.session import KafkaSession
from streams.local import LocalKafka
from streams.record import Output, Record
from streams.session import Inputs
from tests.support.kafka import make_topics


class Silent:
    """A producer whose commit is not answered, whether it `happens` or not."""

    def __init__(self, producer: Producer, happens: bool) -> None:
        self._producer = producer
        self._happens = happens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def commit_transaction(self, _: float) -> None:
        if self._happens:
            self._producer.commit_transaction(30)
            self._happens = False
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "no answer", False, True))


@pytest.fixture
def topics(kafka: LocalKafka) -> dict[str, str]:
    made = make_topics(kafka.bootstrap, {"in": 1, "out": 1})
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
    for value in (b"1", b"2"):
        producer.produce(made["in"], value, b"k", 0)
    assert producer.flush(30) == 0
    return made


@pytest.fixture
def session(kafka: LocalKafka, topics: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[KafkaSession]:
    monkeypatch.setattr("streams.kafka.writer._END", 0.5)
    name = f"undecided-{uuid.uuid4().hex[:8]}"
    properties = {"bootstrap.servers": kafka.bootstrap}
    session = KafkaSession(Inputs(topics["in"]), group=name, transactional_id=name, properties=properties)
    yield session
    session.close()


def take(session: KafkaSession, count: int) -> list[Record]:
    records: list[Record] = []
    while len(records) < count:  # pytest's time limit ends a wait in vain
        records += session.poll(10, 0.2).records
    return records


def there(kafka: LocalKafka, topic: str) -> list[bytes | None]:
    """The values of a topic that are committed."""
    settings = {"bootstrap.servers": kafka.bootstrap, "group.id": "reader", "enable.partition.eof": True, "log_level": 0}
    consumer = Consumer(settings)
    consumer.assign([TopicPartition(topic, 0, 0)])
    values: list[bytes | None] = []
    while True:
        message = consumer.poll(30)
        assert message is not None
        if message.error() is not None:
            assert message.error().code() == KafkaError._PARTITION_EOF
            consumer.close()
            return values
        values.append(message.value())


@pytest.mark.parametrize("happens", [True, False])
@pytest.mark.parametrize(("start", "end"), [(1, 2), (2, 2)], ids=["moved", "only parked work"])
def test_the_offsets_say_whether_it_happened(  # fixtures and cases
    session: KafkaSession, kafka: LocalKafka, topics: dict[str, str], happens: bool, start: int, end: int
) -> None:
    place, out = (topics["in"], 0), topics["out"]
    take(session, 2)
    session.commit([Output(out, b"k", b"0")], {place: start}, "run")
    session._writer._producer = Silent(session._writer._producer, happens)
    if happens:
        session.commit([Output(out, b"k", b"1")], {place: end}, "run")
    else:
        with pytest.raises(Aborted, match="does not answer"):
            session.commit([Output(out, b"k", b"1")], {place: end}, "run")
        assert [record.value for record in take(session, 2 - start)] == [b"2"][: 2 - start], (
            "it stands at its last commit again"
        )
    assert there(kafka, out) == ([b"0", b"1"] if happens else [b"0"])
    session.commit([Output(out, b"k", b"2")], {place: 2}, "run")
    assert there(kafka, out)[-1] == b"2", "the session goes on"


def test_the_first_commit_of_a_group_may_be_without_an_answer(session: KafkaSession, topics: dict[str, str]) -> None:
    take(session, 2)
    session._writer._producer = Silent(session._writer._producer, False)
    with pytest.raises(Aborted):
        session.commit([], {(topics["in"], 0): 1}, "run")


def test_where_another_owner_has_moved_on_a_new_life_begins(session: KafkaSession, topics: dict[str, str]) -> None:
    place = (topics["in"], 0)
    take(session, 2)
    session.commit([], {place: 1}, "run")

    class Overtaken(Silent):
        """And meanwhile the partition's next owner commits."""

        def commit_transaction(self, timeout: float) -> None:
            session._reader._member._consumer.commit(offsets=[TopicPartition(*place, 2, "run")], asynchronous=False)
            super().commit_transaction(timeout)

    session._writer._producer = Overtaken(session._writer._producer, False)
    life = session.token
    with pytest.raises(Aborted, match="another owner"):
        session.commit([Output(topics["out"], b"k", b"1")], {place: 2}, "run")
    assert session.token != life, "a receipt of the old life may be there or not"


def test_a_commit_that_would_not_be_known_again_ends_the_session(session: KafkaSession, topics: dict[str, str]) -> None:
    place = (topics["in"], 0)
    take(session, 2)
    session.commit([], {place: 1})
    session._writer._producer = Silent(session._writer._producer, False)
    with pytest.raises(Fenced, match="nobody can say"):
        session.commit([Output(topics["out"], b"k", b"1")], {place: 1})
