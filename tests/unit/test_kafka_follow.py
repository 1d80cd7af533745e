"""What a session asks of the cluster when partitions come: no more than it has to, together, and with pauses."""

import logging
from concurrent.futures import Future
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from streams.kafka import cluster, follower, member
from streams.kafka import reader as module
from streams.kafka.reader import Reader
from streams.kafka.stats import Statistics
from streams.session import Inputs
from tests.unit.test_kafka_member import Consumer


class Answer:
    """An offset."""

    offset = 3


class Cluster:
    """An admin client; answers come when as many questions have been asked as are expected."""

    asked: list[list[tuple[str, int]]]
    expected = 0
    answers: list[Future[Any]]

    def __init__(self, *_: object, **__: object) -> None: ...

    def list_offsets(self, wanted: dict[TopicPartition, Any], **_: object) -> dict[TopicPartition, Future[Any]]:
        self.asked.append([(place.topic, place.partition) for place in wanted])
        found: dict[TopicPartition, Future[Any]] = {place: Future() for place in wanted}
        self.answers.extend(found.values())
        if len(self.asked) == self.expected:
            for answer in self.answers:
                answer.set_result(Answer)
        return found


@pytest.fixture(autouse=True)
def _double(monkeypatch: pytest.MonkeyPatch) -> None:
    for each in (member, follower):
        monkeypatch.setattr(each, "Consumer", Consumer)
    monkeypatch.setattr(module, "AdminClient", Cluster)
    monkeypatch.setattr(Cluster, "asked", [], raising=False)
    monkeypatch.setattr(Cluster, "answers", [], raising=False)


def reader(monkeypatch: pytest.MonkeyPatch, committed: Any) -> Reader:
    monkeypatch.setattr(module, "committed", committed)
    logger = logging.getLogger("none")
    return Reader(Inputs("in", ("other",), "table"), {}, "g", logger, lambda *_: None, Statistics())


@pytest.mark.timeout(20)
def test_all_questions_are_asked_before_the_first_answer_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cluster, "expected", 2)
    one, two = [TopicPartition("in", 0)], [TopicPartition("table", 0)]
    admin: Any = Cluster()
    latest = OffsetSpec.latest()
    assert cluster.offsets(admin, (one, latest), ([], latest), (two, latest)) == [{("in", 0): 3}, {}, {("table", 0): 3}]


def test_only_where_the_group_has_never_stood_is_the_beginning_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cluster, "expected", 3)

    def committed(*_: object) -> Any:
        return {("in", 0): TopicPartition("in", 0, 7, metadata="run"), ("other", 0): TopicPartition("other", 0, -1001)}

    made = reader(monkeypatch, committed)
    made._member.serve()
    made._follow()
    assert Cluster.asked == [[("other", 0)], [("table", 0)], [("table", 0)]]
    assert made.stood == {("in", 0): (7, "run"), ("other", 0): (3, "")}


def test_a_question_without_an_answer_is_not_repeated_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[object] = []

    def committed(*_: object) -> Any:
        tries.append(None)
        raise KafkaException(KafkaError(KafkaError._WAIT_COORD, "no coordinator"))

    monkeypatch.setattr(module, "_AGAIN", 3600.0)
    made = reader(monkeypatch, committed)
    for _ in range(3):
        made.poll(1, 0)
    assert len(tries) == 1
    assert "no coordinator" in made.waits()
    monkeypatch.setattr(made, "_follow_at", 0.0)
    made.poll(1, 0)
    assert len(tries) == 2
