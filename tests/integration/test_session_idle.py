"""A session on a real Kafka that has nothing to do."""

import uuid

from streams.kafka.session import KafkaSession
from streams.local import LocalKafka
from streams.session import Inputs
from tests.support.kafka import make_topics
from tests.support.workers import wait_for


def test_who_commits_nothing_takes_what_each_client_says_of_itself(kafka: LocalKafka) -> None:
    """Else the statistics of hours wait in the producer's queue, and an idle stage grows by 15 MiB an hour."""
    group = f"group-{uuid.uuid4().hex[:12]}"
    topic = make_topics(kafka.bootstrap, {"in": 1})["in"]
    properties = {"bootstrap.servers": kafka.bootstrap, "statistics.interval.ms": 100}
    session = KafkaSession(Inputs(topic), group=group, transactional_id=group, properties=properties)

    def told() -> bool:
        session.poll(1, 0.1)
        return session.statistics.clients.keys() == {"member", "follower", "producer"}

    try:
        for _ in range(3):
            session.statistics.clients.clear()
            wait_for(told, 30, "not every client is heard")
    finally:
        session.close()
