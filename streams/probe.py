"""Whether a broker serves.

The one rule: an open port is not enough; a topic can be made, gets a leader, and goes away again.
"""

import time
from collections.abc import Callable
from typing import Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

_PATIENCE: Final = 5.0  # seconds for one answer
_PROBE: Final = "towpath-probe"


def probe(bootstrap: str) -> Callable[[], bool]:
    """A question to ask until the answer is yes: does the cluster serve? It takes a second to say no, and never raises."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, "reconnect.backoff.max.ms": 200})
    return lambda: _serves(admin)


def _serves(admin: AdminClient) -> bool:
    try:
        admin.list_topics(timeout=1)
        try:
            admin.create_topics([NewTopic(_PROBE, 1, 1)])[_PROBE].result(_PATIENCE)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # a start that was cut short has left it
                return False
        if not _comes_true(lambda: _leader(admin) >= 0):
            return False
        admin.delete_topics([_PROBE])[_PROBE].result(_PATIENCE)
        return _comes_true(lambda: _PROBE not in admin.list_topics(timeout=_PATIENCE).topics)
    except (KafkaException, TimeoutError):
        return False


def _leader(admin: AdminClient) -> int:
    """The broker that leads the probe's partition, or -1."""
    topic = admin.list_topics(timeout=_PATIENCE).topics.get(_PROBE)
    return next((int(partition.leader) for partition in topic.partitions.values()), -1) if topic else -1


def _comes_true(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
