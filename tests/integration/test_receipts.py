"""Receipts on a real Kafka: kills leave neither a gap nor an overlap between the ranges."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from streams.codec import Codec
from streams.local import LocalKafka
from streams.receipts import Receipt
from streams.registry import FolderRegistry
from tests.property.receipts import check_ranges, check_sequences, check_sum
from tests.support.contracts import Contracts
from tests.support.poison import write_schemas
from tests.support.reader import Reader
from tests.support.workers import Crew, towpath, wait_for

MODULE = "tests.support.poison"
ORDERS = 6000


@pytest.fixture
def crew(tmp_path: Path, kafka: LocalKafka) -> Iterator[Crew]:
    name = f"poison-{uuid.uuid4().hex[:8]}"
    write_schemas(tmp_path / "schemas", name)
    environment = {
        "TOWPATH_BOOTSTRAP": kafka.bootstrap,
        "TOWPATH_POISON": name,
        "TOWPATH_POISON_HOME": str(tmp_path),
        "TOWPATH_DIR": str(tmp_path),
        "TOWPATH_KAFKA": "transaction.timeout.ms=4000",
        "TOWPATH_VERSION": "seven",
    }
    with Crew(tmp_path, environment) as crew:
        towpath(environment, "topics", "apply", MODULE)
        yield crew


def test_ranges_join_over_kills(crew: Crew) -> None:
    name, bootstrap = crew.environment["TOWPATH_POISON"], crew.environment["TOWPATH_BOOTSTRAP"]
    contracts = Contracts(Path(crew.environment["TOWPATH_DIR"]) / "schemas")
    decode = Codec([Receipt], FolderRegistry(Path(crew.environment["TOWPATH_DIR"]) / "schemas")).decoder(Receipt)
    producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "log_level": 0})
    asked, eaten, kept = f"{name}.asked", f"{name}.eaten", f"{name}.receipts"
    with Reader(bootstrap, [eaten, kept]) as reader:
        workers = [crew.start(MODULE, "eater", instance=instance) for instance in ("a", "b")]
        for life in range(3):
            for seq in range(ORDERS // 3):
                value = contracts.encode("Asked", {"key": f"k{seq}", "seq": life, "word": "fine"})
                producer.produce(asked, value, b"k%d" % seq)
            assert producer.flush(30) == 0
            seen = reader.count(eaten)
            wait_for(lambda seen=seen: reader.count(eaten) > seen, 60, "nothing is eaten", crew.logs)  # type: ignore[misc]  # a default is no cell
            victim = workers[life % 2]
            victim.kill()
            victim.start()
        wait_for(lambda: reader.count(eaten) >= ORDERS, 90, "not all are eaten", crew.logs)
        reader.to_end()
        receipts = [decode(record.value) for record in reader.records[kept]]
        assert reader.count(eaten) == ORDERS
    for receipt in receipts:
        check_sum(receipt)
    check_sequences(receipts)
    spans = [span for receipt in receipts for span in receipt.ranges]
    ends: dict[tuple[str, int], int] = {}
    for span in spans:
        ends[span.topic, span.partition] = max(span.end, ends.get((span.topic, span.partition), 0))
    check_ranges(spans, ends)
    assert sum(receipt.consumed for receipt in receipts) == ORDERS == sum(ends.values())
    assert {receipt.version for receipt in receipts} == {"seven"}
    assert len({receipt.session for receipt in receipts}) >= 2  # who is killed before its first commit leaves no receipt
