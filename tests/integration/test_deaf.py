"""A follower that stops reading without a word is replaced, and nothing is read twice or left out; so is a lost member."""

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from streams import topics
from streams.kafka import deaf as module
from streams.kafka.deaf import Belonging, Hearing
from streams.kafka.session import KafkaSession
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
    topic, table = session._reader._topics
    send(kafka, topic, [b"1", b"2"])
    assert read(session, lambda records, _: len(records) == 2) == ([b"1", b"2"], [])
    follower = session._reader._follower._consumer
    follower.pause([TopicPartition(topic, 0), TopicPartition(table, 0)])  # as when librdkafka loses a resume
    send(kafka, table, [b"parked"])
    send(kafka, topic, [b"3", b"4"])
    assert read(session, lambda records, parked: len(records) == 2 and len(parked) == 1) == ([b"3", b"4"], [b"parked"])
    assert session._reader._follower._consumer is not follower


class Hung:
    """A follower whose fetching hangs: it takes every order, says where it was, and hands out nothing."""

    def __init__(self, follower: Consumer) -> None:
        self._follower = follower

    def __getattr__(self, name: str) -> Any:
        return getattr(self._follower, name)

    def incremental_assign(self, _: list[TopicPartition]) -> None: ...

    def incremental_unassign(self, _: list[TopicPartition]) -> None: ...

    def consume(self, _: int, timeout: float) -> list[Any]:
        time.sleep(timeout)
        return []


def test_what_is_to_be_read_again_is_read_by_a_new_consumer(session: KafkaSession, kafka: LocalKafka) -> None:
    """One that has read a partition before may go on where it was, or nowhere."""
    reader = session._reader
    topic, _ = reader._topics
    send(kafka, topic, [b"1", b"2"])
    assert read(session, lambda records, _: len(records) == 2) == ([b"1", b"2"], [])
    reader._follower._consumer = hung = cast("Consumer", Hung(reader._follower._consumer))
    reader.rewind()  # as after a transaction that did not happen
    assert read(session, lambda records, _: len(records) == 2) == ([b"1", b"2"], [])
    reader.pause([0], True)
    send(kafka, topic, [b"3"])
    assert not session.poll(10, 0.2).records
    reader._follower._consumer = again = cast("Consumer", Hung(reader._follower._consumer))
    reader.pause([0], False)
    assert read(session, lambda records, _: len(records) == 1) == ([b"3"], [])
    assert reader._follower._consumer not in (hung, again)


def test_who_has_read_all_keeps_its_follower(session: KafkaSession, kafka: LocalKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the last offset is a marker: the end is behind it, and no record ever comes from there."""
    reader = session._reader
    topic, _ = reader._topics
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": topic, "log_level": 0})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, b"1", b"k", 0)
    producer.commit_transaction(30)
    read(session, lambda records, _: len(records) == 1)
    read(session, lambda *_: reader._follower.at[topic, 0] == 2)
    monkeypatch.setattr("streams.kafka.reader._LOOK", 0.3)
    reader._look_at = 0.0
    follower, member = reader._follower._consumer, reader._member._consumer
    until = time.monotonic() + 3
    read(session, lambda *_: time.monotonic() > until)
    assert (reader._follower._consumer, reader._member._consumer) == (follower, member)


def test_a_member_that_is_out_of_its_group_is_replaced(
    session: KafkaSession, kafka: LocalKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.kafka.reader._LOOK", 1.0)
    monkeypatch.setattr("streams.kafka.stats._SILENT", 3.0)
    reader = session._reader
    topic, _ = reader._topics
    send(kafka, topic, [b"1"])
    assert read(session, lambda records, _: len(records) == 1) == ([b"1"], [])
    member = reader._member._consumer
    member.unsubscribe()  # as when librdkafka does not come back after a broker has dropped it
    read(session, lambda *_: reader._member._consumer is not member)
    assert read(session, lambda records, _: len(records) == 1) == ([b"1"], []), "from the last commit on"


def test_a_member_without_a_partition_stays(kafka: LocalKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.kafka.reader._LOOK", 0.3)
    lead = make_topics(kafka.bootstrap, {"in": 1})["in"]
    sessions = [
        KafkaSession(Inputs(lead), group=lead, transactional_id=name, properties={"bootstrap.servers": kafka.bootstrap})
        for name in (f"{lead}-a", f"{lead}-b")
    ]
    members = [session._reader._member._consumer for session in sessions]
    until = time.monotonic() + 12  # what they say of themselves comes every 5 s
    while time.monotonic() < until:
        for session in sessions:
            session.poll(10, 0.1)
    assert [session._reader._member._consumer for session in sessions] == members
    assert sum(len(session._reader._owned) for session in sessions) == 1
    for session in sessions:
        session.close()


def test_what_goes_wrong_in_a_rebalance_keeps_its_type(session: KafkaSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """confluent-kafka makes a SystemError of it, before Python 3.12, unless Python code has caught it on its way."""
    monkeypatch.setattr(session._reader._member, "_came", lambda _: int("no partition"))
    with pytest.raises(ValueError, match="no partition"):
        read(session, lambda *_: False)


class Cluster:
    """An admin client that knows one end, or does not answer."""

    end: int | None = 0
    made = 0

    def __init__(self, *_: object, **__: object) -> None:
        Cluster.made += 1

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
    monkeypatch.setattr(module, "AdminClient", Cluster)
    monkeypatch.setattr(Cluster, "end", end)
    hearing = Hearing({}, topics.QUIET)
    assert not hearing.look({PLACE: first}, idle=True)
    assert hearing.look({PLACE: then}, idle=idle) == ({PLACE} if deaf else set())
    assert not hearing.look({}, idle=True)


def test_who_answers_is_asked_again_and_who_does_not_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AdminClient", Cluster)
    monkeypatch.setattr(Cluster, "made", 0)
    hearing = Hearing({}, topics.QUIET)
    made = []
    for end in (7, 7, None, 7, 7):
        monkeypatch.setattr(Cluster, "end", end)
        hearing.look({PLACE: 7}, idle=True)
        made.append(Cluster.made)
    assert made == [1, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("looks", "out"),
    [
        (["astray", "astray"], True),
        (["astray", "astray", "back", "astray"], False),
        (["astray", "silence"], False),  # nobody can find back to a cluster that is not there
        (["astray", "silence", "astray"], True),
    ],
)
def test_lost_is_who_does_not_find_back_to_a_cluster_that_is_there(
    monkeypatch: pytest.MonkeyPatch, looks: list[str], out: bool
) -> None:
    monkeypatch.setattr(module, "AdminClient", Cluster)
    belonging = Belonging({}, topics.QUIET, PLACE[0])
    said = []
    for look in looks:
        monkeypatch.setattr(Cluster, "end", None if look == "silence" else 0)
        said.append(belonging.look(look != "back"))
    assert not any(said)
    assert belonging.look(True) == out
    if out:
        assert not belonging.look(True), "a new one is given its time"
