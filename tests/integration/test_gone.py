"""What a session is to read next is not there: it is gone, or only a broker that is behind says so."""

import logging
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from streams.errors import SetupError
from streams.kafka import gone
from streams.kafka.session import KafkaSession
from streams.local import LocalKafka
from streams.session import Inputs
from tests.integration.test_undecided import take
from tests.support.kafka import make_topics
from tests.support.workers import wait_for


class Group:
    """A topic of one partition and ten records, and a group that stands somewhere."""

    def __init__(self, kafka: LocalKafka, stands: int) -> None:
        self.settings = {"bootstrap.servers": kafka.bootstrap, "log_level": 0}
        self.topic = make_topics(kafka.bootstrap, {"in": 1})["in"]
        self.place = TopicPartition(self.topic, 0, stands)
        self.fill(10)
        consumer = Consumer(self.settings | {"group.id": self.topic})
        consumer.commit(offsets=[self.place], asynchronous=False)
        consumer.close()
        properties = {"bootstrap.servers": kafka.bootstrap}
        self.session = KafkaSession(Inputs(self.topic), group=self.topic, transactional_id=self.topic, properties=properties)

    def fill(self, count: int) -> None:
        """So many records more."""
        producer = Producer(self.settings)
        for _ in range(count):
            producer.produce(self.topic, b"v", b"k", 0)
        assert producer.flush(30) == 0


@pytest.fixture
def behind(kafka: LocalKafka) -> Iterator[Group]:
    group = Group(kafka, 5)
    yield group
    group.session.close()


@pytest.fixture
def beyond(kafka: LocalKafka) -> Iterator[Group]:
    group = Group(kafka, 15)
    yield group
    group.session.close()


def test_what_retention_removed_ends_the_session_and_says_what_to_do(behind: Group) -> None:
    cut = TopicPartition(behind.topic, 0, 8)
    admin = AdminClient(behind.settings)
    admin.delete_records([cut])[cut].result(30)
    with pytest.raises(SetupError, match=rf"{behind.topic}\[0\]: .* gone: it begins at 8, and 5 is to be read.*on purpose"):
        take(behind.session, 1)


def test_where_a_broker_is_behind_it_is_waited_for(beyond: Group, caplog: pytest.LogCaptureFixture) -> None:
    """As by one that takes itself for the leader, and does not have what its successor has taken: here nobody has it yet."""
    caplog.set_level(logging.WARNING, "towpath.kafka")

    def said() -> bool:
        assert not beyond.session.poll(10, 0.1).records
        return "does not have offset 15" in caplog.text

    wait_for(said, 30, "nothing is said")
    beyond.fill(7)
    assert [record.offset for record in take(beyond.session, 2)] == [15, 16]


def test_an_end_that_stays_before_the_place_is_believed(beyond: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gone, "_SURE", 0.5)
    with pytest.raises(SetupError, match=rf"{beyond.topic}\[0\]: .* gone: it ends at 10, and 15 is to be read.*on purpose"):
        take(beyond.session, 1)
