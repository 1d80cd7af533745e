"""Closing a session on a real Kafka while its group is on the move."""

import threading
import time
import uuid

import pytest

from streams.kafka.session import KafkaSession
from streams.local import LocalKafka
from streams.session import Inputs
from tests.support.kafka import make_topics

_ROUNDS = 4


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_session_closes_while_its_group_shares_the_partitions_anew(kafka: LocalKafka, protocol: str) -> None:
    topic = make_topics(kafka.bootstrap, {"in": 4})["in"]
    group = f"group-{uuid.uuid4().hex[:12]}"
    properties = {"bootstrap.servers": kafka.bootstrap, "group.protocol": protocol}

    def opened(name: str) -> KafkaSession:
        return KafkaSession(Inputs(topic), group=group, transactional_id=f"{group}.{name}", properties=properties)

    def stay(session: KafkaSession, until: threading.Event) -> None:
        while not until.is_set():
            session.poll(10, 0.02)

    stayer, done = opened("stayer"), threading.Event()
    staying = threading.Thread(target=stay, args=(stayer, done))
    staying.start()
    try:
        for number in range(_ROUNDS):
            leaver = opened(f"leaver-{number}")
            deadline = time.monotonic() + 30
            while not leaver.poll(10, 0.02).gained:  # the moment of its first partition is the middle of a rebalance
                assert time.monotonic() < deadline
            closing = threading.Thread(target=leaver.close, daemon=True)
            closing.start()
            closing.join(30)
            assert not closing.is_alive(), "close hangs"
    finally:
        done.set()
        staying.join(30)
        stayer.close()
