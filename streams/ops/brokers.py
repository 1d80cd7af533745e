"""The brokers as the cluster's own metadata show them: who is there, and which partitions lack a leader or a replica.

The one rule: one question, to whichever broker answers. What a broker knows of itself alone (requests, disks) is not here.
"""

from collections.abc import Iterable
from typing import Final

import msgspec
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streams.errors import SetupError

_ANSWER: Final = 10.0  # seconds


class Replication(msgspec.Struct, frozen=True):
    """How many partitions of one topic have no leader (nobody can read or write them), and how many lack a replica."""

    topic: str
    offline: int
    under_replicated: int


class Brokers(msgspec.Struct, frozen=True):
    """How many brokers the cluster has now, and how the topics that were asked for are replicated, in their order."""

    count: int
    topics: tuple[Replication, ...]


def look(admin: AdminClient, names: Iterable[str]) -> Brokers:
    """The brokers of this moment, and those of the named topics that exist. Raises `SetupError` if no broker answers."""
    try:
        found = admin.list_topics(timeout=_ANSWER)
    except KafkaException as error:
        raise SetupError(f"the cluster does not answer: {error.args[0].str()}", fix="try again") from None
    topics = []
    for name in names:
        if name not in found.topics:
            continue
        partitions = found.topics[name].partitions.values()
        offline = sum(partition.leader < 0 for partition in partitions)
        lacking = sum(len(partition.isrs) < len(partition.replicas) for partition in partitions)
        topics.append(Replication(name, offline, lacking))
    return Brokers(len(found.brokers), tuple(topics))
