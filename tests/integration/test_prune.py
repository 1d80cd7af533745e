"""Pruning the inbox against a real Kafka: what could still come stays, however old; the rest goes."""

import time
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from sqlalchemy import select

from streams import migrate, names, topics
from streams.config import Settings
from streams.errors import SetupError
from streams.local import LocalKafka
from streams.ops.prune import prune
from streams.record import Record, event
from streams.stage import Context, Stage
from streams.store import Inbox, tables
from streams.topology import Topology
from tests.support.counters import STORE
from tests.support.postgres import Meanwhile, wait_until

WEEK = 7 * 86400.0


class Shop:
    """A topology of one stage with a store, whose workers are not at work: what they would have done is written by hand."""

    def __init__(self, bootstrap: str, url: str) -> None:
        self.topic = f"shop-{uuid.uuid4().hex[:8]}"

        @event(self.topic, key="name")
        class Sold(msgspec.Struct, frozen=True):
            name: str

        def count(sold: Any, ctx: Context) -> None:
            """Count."""

        count.__annotations__ = {"sold": Sold, "ctx": Context, "return": None}
        stage = Stage("counting", store=STORE)
        stage.on(count)
        self.topology = Topology(self.topic, sources=[Sold], stages=[stage], partitions=2, schemas=Path())
        self.settings = Settings(bootstrap=bootstrap, store=url)
        self.admin: AdminClient = topics.connect(self.settings)
        topics.apply(topics.plan(self.topology), self.admin)
        self.table = names.retry(self.topic, "counting")
        migrate.upgrade(url, [STORE])
        self.inbox = Inbox(url, names.group(self.topic, "counting"), STORE)

    def commit(self, partition: int, offset: int) -> None:
        place = [TopicPartition(self.topic, partition, offset)]
        group = names.group(self.topic, "counting")

        def done() -> bool:  # a new broker's coordinator takes a moment
            asked = self.admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, place)])
            return asked[group].result(30).topic_partitions[0].error is None

        wait_until(done)

    def handle(self, event_id: str, offset: int, *, partition: int = 0, age: float = 2 * WEEK) -> None:
        with self.inbox.batch([event_id], time.time() - age) as journal:
            journal.record(event_id, (), Record(self.topic, partition, offset, None, None))

    def park(self, producer: Producer, offset: int, value: bytes | None = b"x") -> None:
        producer.produce(self.table, value, f"{self.topic}/0/{offset}".encode(), 0)

    def known(self) -> set[str]:
        with self.inbox.batch([], 0.0) as journal:
            return set(journal.repository.connection.execute(select(tables.tables["inbox"].c.event_id)).scalars())

    def prune(self, *, dry_run: bool = False) -> tuple[int, int]:
        (done,) = prune(self.topology, self.settings, time.time() - WEEK, dry_run=dry_run)
        return done.old, done.pruned


@pytest.fixture
def shop(kafka: LocalKafka, url: str) -> Any:
    shop = Shop(kafka.bootstrap, url)
    yield shop
    shop.inbox.close()


def test_what_could_still_come_stays_however_old(shop: Shop) -> None:
    producer = Producer({"bootstrap.servers": shop.settings.bootstrap})
    shop.commit(0, 6)
    shop.handle("done", 0)
    shop.handle("waits for a retry", 1)
    shop.handle("waited, and is done", 2)
    shop.handle("done a moment ago", 3, age=60)
    shop.handle("read, but Kafka does not know yet", 6)
    shop.handle("a timer that went off", -7)
    shop.handle("a timer that is still set", -8)
    shop.handle("of a partition that never committed", 0, partition=1)
    for offset, value in ((1, b"x"), (2, b"x"), (2, None), (-8, b"x")):
        shop.park(producer, offset, value)
    assert producer.flush(30) == 0
    before = shop.known()
    assert shop.prune(dry_run=True) == (7, 3)
    assert shop.known() == before
    assert shop.prune() == (7, 3)
    assert before - shop.known() == {"done", "waited, and is done", "a timer that went off"}
    assert shop.prune() == (4, 0)


def test_a_transaction_that_is_undecided_is_waited_for(shop: Shop) -> None:
    shop.commit(0, 6)
    shop.handle("parked, says a transaction of a moment ago", 4)
    producer = Producer({"bootstrap.servers": shop.settings.bootstrap, "transactional.id": shop.topic})
    producer.init_transactions(30)
    producer.begin_transaction()
    shop.park(producer, 4)
    producer.flush(30)
    pruning = Meanwhile(shop.prune)
    pruning.join(1.0)  # long enough for it to have read all there is without waiting
    producer.commit_transaction(30)
    assert pruning.result() == (1, 0)
    assert len(shop.known()) == 1


def test_many_rows_go_in_steps(shop: Shop) -> None:
    shop.commit(0, 10_000)
    with shop.inbox.batch([], time.time() - 2 * WEEK) as journal:
        for number in range(1234):
            journal.record(f"{number:05}", (), Record(shop.topic, 0, number, None, None))
    assert shop.prune() == (1234, 1234)
    assert shop.known() == set()


def test_an_age_of_minutes_is_refused(shop: Shop) -> None:
    with pytest.raises(SetupError, match="an hour is the shortest age"):
        prune(shop.topology, shop.settings, time.time() - 60)
