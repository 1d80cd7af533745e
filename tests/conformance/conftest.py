"""One fixture: every law runs on memory and, under both group protocols, on a real Kafka."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from streams.local import LocalKafka
from tests.conformance.kafka_universe import KafkaUniverse
from tests.conformance.universe import MemoryUniverse, Universe


@pytest.fixture(params=["memory", "kafka-consumer", "kafka-classic"])
def universe(request: pytest.FixtureRequest) -> Iterator[Universe]:
    made: Universe
    if request.param == "memory":
        made = MemoryUniverse()
    else:
        broker: LocalKafka = request.getfixturevalue("kafka")
        made = KafkaUniverse(broker.bootstrap, request.param.removeprefix("kafka-"))
    with closing(made):
        yield made
