"""Records that kill or stop their process, on a real Kafka: a supervisor that only restarts is enough to get past them."""

import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from streams.local import LocalKafka
from tests.support.contracts import Contracts
from tests.support.flow import disordered
from tests.support.poison import write_schemas
from tests.support.reader import Reader, text_headers
from tests.support.workers import Crew, Worker, towpath, wait_for

MODULE = "tests.support.poison"


class Table(Crew):
    """One copy of the flow, its supervised worker and a reader of what comes out."""

    def __init__(self, directory: Path, bootstrap: str) -> None:
        self.name = f"poison-{uuid.uuid4().hex[:8]}"
        self.home = directory / self.name
        write_schemas(self.home / "schemas", self.name)
        super().__init__(
            self.home,
            {
                "TOWPATH_BOOTSTRAP": bootstrap,
                "TOWPATH_POISON": self.name,
                "TOWPATH_POISON_HOME": str(self.home),
                "TOWPATH_DIR": str(self.home),
                "TOWPATH_KAFKA": "transaction.timeout.ms=4000",
            },
        )
        towpath(self.environment, "topics", "apply", MODULE)
        self.contracts = Contracts(self.home / "schemas")
        self.producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "log_level": 0})
        self.asked, self.eaten, self.dlq, self.cases = (
            f"{self.name}.{topic}" for topic in ("asked", "eaten", "eater.dlq", "cases")
        )
        self.reader = Reader(bootstrap, [self.eaten, self.dlq, self.cases])

    def worker(self) -> Worker:
        return self.start(MODULE, "eater", instance="only")

    def send(self, *records: tuple[str, int, str]) -> None:
        for key, seq, word in records:
            value = self.contracts.encode("Asked", {"key": key, "seq": seq, "word": word})
            self.producer.produce(self.asked, value, key.encode())
        assert self.producer.flush(30) == 0

    def items(self, topic: str) -> list[tuple[str, int]]:
        values = [self.contracts.decode(record.value) for record in self.reader.records[topic]]
        return [(value["key"], value["seq"]) for value in values]

    def wait_for(self, eaten: int, dead: int = 0, seconds: float = 90) -> None:
        """Start the worker again whenever it dies, until so many records have come out."""

        def through() -> bool:
            self.supervise()
            ends = [code for worker in self.workers for code in worker.ends]
            assert ends == [-signal.SIGKILL] * len(ends), self.logs()
            assert len(ends) <= 3, self.logs()
            return self.reader.count(self.eaten) >= eaten and self.reader.count(self.dlq) >= dead

        wait_for(through, seconds, f"not {eaten} are eaten and {dead} dead", self.logs)


@pytest.fixture
def table(tmp_path: Path, kafka: LocalKafka) -> Iterator[Table]:
    with Table(tmp_path, kafka.bootstrap) as table, table.reader:
        yield table


def harmless(*seqs: int) -> list[tuple[str, int, str]]:
    return [(f"k{key}", seq, "fine") for seq in seqs for key in range(12)]


@pytest.mark.parametrize("met", ["in a batch with others", "by itself, later"])
def test_a_record_that_kills_its_process_is_dead_after_three_deaths_and_nothing_else_is(table: Table, met: str) -> None:
    worker = table.worker()
    if met == "by itself, later":
        table.send(*harmless(0))
        table.wait_for(12)
        table.send(("k3", 1, "kill"), *harmless(2))
    else:
        table.send(*harmless(0), ("k3", 1, "kill"), *harmless(2))
    table.wait_for(24, dead=1)
    assert worker.ends == [-signal.SIGKILL] * 3
    assert worker.terminate()[0] == 0
    table.reader.to_end()
    eaten = table.items(table.eaten)
    assert sorted(eaten) == sorted((key, seq) for key, seq, _ in harmless(0, 2))
    assert disordered(eaten) == []
    (letter,) = table.reader.records[table.dlq]
    assert table.items(table.dlq) == [("k3", 1)]
    assert text_headers(letter)["dead-verdict"] == "crashed"
    (case,) = table.reader.records[table.cases]
    opened: dict[str, Any] = table.contracts.decode(case.value)
    assert (opened["state"], opened["verdict"], opened["key"]) == ("open", "crashed", b"k3")
    assert "Traceback" not in worker.log


def test_a_process_that_others_kill_makes_no_record_dead(table: Table) -> None:
    worker = table.worker()
    for life in range(3):
        table.send(*harmless(life))
        table.wait_for(12 * (life + 1))
        table.send(*harmless(100 + life))  # some of these may be in its hands
        worker.kill()
        worker.start()
        table.wait_for(12 * (life + 1))
    table.wait_for(12 * 6)
    assert worker.ends == [-signal.SIGKILL] * 3
    assert worker.terminate()[0] == 0
    table.reader.to_end()
    assert len(table.items(table.eaten)) == len(set(table.items(table.eaten))) == 12 * 6
    assert table.items(table.dlq) == []


def test_a_handler_that_does_not_return_is_named_by_the_health_page(table: Table) -> None:
    worker = table.worker()
    wait_for(lambda: worker.ready, 60, "the worker is not ready", table.logs)
    assert worker.page("/health")[0] == 200
    table.send(("k3", 0, "block"))
    wait_for(lambda: worker.page("/health")[0] == 503, 30, "health is good", table.logs)
    (stage,) = worker.page("/health")[1]["stages"]
    assert stage["reason"].startswith(f"a handler has been at {table.asked}[")
    assert "]@0 for " in stage["reason"]
    (table.home / "free").touch()
    table.wait_for(1)
    wait_for(lambda: worker.page("/health")[0] == 200, 30, "health is bad", table.logs)
    assert worker.ends == []
