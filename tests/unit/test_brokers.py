"""What the metadata of a cluster say of its brokers. A whole cluster is in tests/integration/test_lag.py."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from streams.errors import SetupError
from streams.ops.brokers import Brokers, Replication, look


def partition(leader: int, replicas: list[int], isrs: list[int]) -> Any:
    return SimpleNamespace(leader=leader, replicas=replicas, isrs=isrs)


class Cluster:
    """An `AdminClient` that answers with these metadata, or not at all."""

    def __init__(self, brokers: list[int], **topics: list[Any]) -> None:
        named = {name: SimpleNamespace(partitions=dict(enumerate(parts))) for name, parts in topics.items()}
        self._found = SimpleNamespace(brokers=dict.fromkeys(brokers), topics=named)

    def list_topics(self, timeout: float) -> Any:
        if not self._found.brokers:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"after {timeout} s"))
        return self._found


def test_a_partition_without_a_leader_is_offline_and_one_that_lacks_a_replica_under_replicated() -> None:
    well, lacking, gone = partition(1, [1, 2], [2, 1]), partition(1, [1, 2], [1]), partition(-1, [2, 3], [])
    found = look(cast("AdminClient", Cluster([1], b=[well, lacking, gone, gone], a=[well])), ["a", "b", "made by nobody"])
    assert found == Brokers(1, (Replication("a", 0, 0), Replication("b", 2, 3)))


def test_a_cluster_that_does_not_answer_is_said_to_the_user() -> None:
    with pytest.raises(SetupError, match="does not answer"):
        look(cast("AdminClient", Cluster([])), [])
