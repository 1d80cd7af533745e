"""A member that its group has dropped: what it says of partitions that may be another's by now, and by which metadata."""

import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar

import pytest
from confluent_kafka import TopicPartition

from streams.errors import Aborted
from streams.kafka import member as kafka_member
from streams.kafka import session as kafka
from streams.kafka.member import Member
from streams.kafka.session import KafkaSession
from streams.kafka.stats import Statistics
from streams.session import Claim, Inputs, Polled

PLACES = [TopicPartition("in", 0)]
NOBODY = b"-1 in-group"


class Consumer:
    """One that is thrown out of its classic group: it has no generation from then on, and says so at the next poll."""

    def __init__(self, _: Mapping[str, Any], *, logger: logging.Logger) -> None:  # noqa: ARG002  # as librdkafka's
        self.generation = NOBODY
        self.told: dict[str, Callable[..., None]] = {}
        self.pending: list[str] = ["on_assign"]

    def list_topics(self, topic: str, _: float) -> Any:
        partitions = type("Topic", (), {"error": None, "partitions": {0: None}})
        return type("Cluster", (), {"topics": {topic: partitions}})

    def subscribe(self, _: list[str], **told: Callable[..., None]) -> None:
        self.told = told

    def poll(self, _: float) -> None:
        if self.pending and self.told:
            if (what := self.pending.pop(0)) == "on_assign":
                self.generation = b"1 in-group"
            self.told[what](self, PLACES)

    def consumer_group_metadata(self) -> bytes:
        return self.generation

    def dropped(self) -> None:
        """As librdkafka's own thread does it: at any moment between two polls."""
        self.generation, self.pending = NOBODY, ["on_lost"]

    def incremental_assign(self, _: object) -> None: ...
    def incremental_unassign(self, _: object) -> None: ...
    def unassign(self) -> None: ...
    def pause(self, _: object) -> None: ...


class Told:
    """What a member has said of its partitions."""

    def __init__(self) -> None:
        self.owned: set[int] = set()
        self.gone: list[Any] = []  # with which metadata

    def came(self, partitions: Collection[int]) -> None:
        self.owned |= set(partitions)

    def goes(self, partitions: Collection[int], group: Any) -> None:
        self.owned -= set(partitions)
        self.gone.append(group)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def member(told: Told, monkeypatch: pytest.MonkeyPatch) -> Member:
    monkeypatch.setattr(kafka_member, "Consumer", Consumer)
    made = Member(("in",), {"group.id": "in-group"}, {}, logging.getLogger("none"), Statistics(), (told.came, told.goes))
    made.serve()
    return made


def test_who_was_dropped_has_no_metadata_whether_it_is_told_of_a_loss_or_not(member: Member, told: Told) -> None:
    """A broker takes a transaction's offsets from anybody who has neither name nor generation."""
    assert (member.group(), told.owned) == (b"1 in-group", {0})
    member._consumer.dropped()
    assert (member.group(), told.owned) == (None, {0})


def test_a_revocation_that_was_under_way_when_the_member_was_dropped_goes_without_metadata(member: Member, told: Told) -> None:
    member._consumer.dropped()
    member._consumer.pending = ["on_revoke"]
    member.serve()
    assert told.gone == [None]


def test_partitions_that_go_in_good_order_go_with_the_metadata_and_lost_ones_without(member: Member, told: Told) -> None:
    member._consumer.pending = ["on_revoke", "on_lost"]
    member.serve()
    member.serve()
    assert told.gone == [b"1 in-group", None]


def test_partitions_of_a_member_that_cannot_name_its_generation_go_without_it(member: Member, told: Told) -> None:
    """As in a revocation within close()."""

    def none() -> bytes:
        raise RuntimeError("Consumer group metadata unavailable")

    member._consumer.consumer_group_metadata = none
    member._consumer.pending = ["on_revoke"]
    member.serve()
    assert (told.owned, told.gone) == (set(), [None])


def test_of_a_consumer_that_was_replaced_nothing_is_asked_or_said(member: Member, told: Told) -> None:
    """It is told of its partitions as it is closed, and may not be able to answer any more."""

    def gone() -> str:
        raise RuntimeError("Consumer closed")

    old = member._consumer
    old.consumer_group_metadata = gone
    member._consumer = Consumer({}, logger=member._logger)
    old.pending = ["on_revoke", "on_lost"]
    old.poll(0)
    old.poll(0)
    assert (told.owned, told.gone) == ({0}, [])


class Writer:
    """Notes what is committed."""

    opened = True

    def __init__(self) -> None:
        self.places: list[TopicPartition] = []

    def write(self, _: object, places: list[TopicPartition], __: object) -> None:
        self.places += places


@pytest.mark.parametrize(("group", "offsets"), [("generation 1", [7]), (None, [])])
def test_a_session_commits_nothing_for_partitions_that_it_has_lost(
    group: str | None, offsets: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer()
    monkeypatch.setattr(kafka, "Writer", lambda *_: writer)
    session = KafkaSession(Inputs("in"), group="g", transactional_id="t", properties={"bootstrap.servers": "127.0.0.1:1"})
    session._marked = {0}
    session._let_go({0: 7}, group)
    assert [place.offset for place in writer.places] == offsets
    session._let_go({0: 7}, "generation 2")
    assert len(writer.places) == len(offsets), "it has written nothing since"


def test_a_session_without_a_place_in_its_group_commits_nothing_and_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    writer, back = Writer(), []

    class Reader:
        stood: ClassVar = {("in", 0): (7, "run")}
        group = None

        def __init__(self, *_: Any) -> None: ...

        def rewind(self) -> None:
            back.append("rewind")

    monkeypatch.setattr(kafka, "Writer", lambda *_: writer)
    monkeypatch.setattr(kafka, "Reader", Reader)
    session = KafkaSession(Inputs("in"), group="g", transactional_id="t", properties={})
    with pytest.raises(Aborted, match="no place in its group"):
        session.commit([], {("in", 0): 8}, "run")
    assert (writer.places, back) == ([], ["rewind"])


@pytest.mark.parametrize("replaced", [True, False])
def test_the_coordinator_is_looked_for_before_a_new_producer_asks_for_it(
    replaced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A producer that asks while nobody is elected hangs; the one that takes its place must not ask at the same moment."""
    done: list[str] = []

    class Broken(Writer):
        opened = not replaced

        def write(self, *_: Any) -> None:
            raise Aborted("the coordinator does not answer")

        rehearse = write

        def serve(self) -> None: ...

        def open(self) -> None:
            done.append("open")

    class Reader:
        stood: ClassVar = {("in", 0): (7, "run"), ("in", 1): (7, "run")}
        group = "generation 1"

        def __init__(self, *_: Any) -> None: ...

        def poll(self, *_: Any) -> Polled:
            return Polled(gained=[Claim(0, {"in": 7}, "run", 0.0)])

        def rewind(self) -> None:
            done.append("rewind")

        def stands(self, before: dict[Any, Any]) -> None:
            done.append(f"ask for {len(before)}")

    monkeypatch.setattr(kafka, "Writer", lambda *_: Broken())
    monkeypatch.setattr(kafka, "Reader", Reader)
    session = KafkaSession(Inputs("in"), group="g", transactional_id="t", properties={})
    with pytest.raises(Aborted):
        session.commit([], {("in", 0): 8}, "run")
    found = ["open", "ask for 1"] if replaced else []
    assert done == ["rewind", *found]
    session.poll(1, 0.0)  # the first partitions: a transaction is rehearsed
    assert done == ["rewind", *found, *found]
