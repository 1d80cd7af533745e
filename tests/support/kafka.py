"""The real Kafka of the tests.

The one rule: one broker serves a whole session, so a test makes topics of its own and leaves those of others alone.
A test that kills or stops a broker starts one of its own.
"""

import uuid
from collections.abc import Iterator, Mapping

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
    return topics
