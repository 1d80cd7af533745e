"""The real Kafka of the tests.

The one rule: one broker serves a whole session, so a test makes topics of its own and leaves those of others alone.
A test that kills or stops a broker starts one of its own.
"""

import time
import uuid
from collections.abc import Iterable, Iterator, Mapping

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from streams.local import FAILOVER, LocalKafka


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    """A ready broker that misses a dead consumer within seconds; stopped when the session ends."""
    with LocalKafka.start(tmp_path_factory.mktemp("kafka"), overrides=FAILOVER) as broker:
        yield broker


def make_topics(bootstrap: str, partitions: Mapping[str, int], config: Mapping[str, str] | None = None) -> dict[str, str]:
    """Make a topic for each name, under that name with a unique ending. Returns name -> topic; all have leaders."""
    topics = {name: f"{name}-{uuid.uuid4().hex[:12]}" for name in partitions}
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    made = admin.create_topics(
        [NewTopic(topics[name], count, 1, config=dict(config or {})) for name, count in partitions.items()]
    )
    for future in made.values():
        future.result(30)
    deadline = time.monotonic() + 30
    while not _led(admin, topics.values()):  # the controller has made them; the broker hears of it a little later
        assert time.monotonic() < deadline, f"no leader for {topics}"
        time.sleep(0.02)
    return topics


def _led(admin: AdminClient, topics: Iterable[str]) -> bool:
    known = admin.list_topics(timeout=30).topics
    return all(topic in known and all(part.leader >= 0 for part in known[topic].partitions.values()) for topic in topics)
