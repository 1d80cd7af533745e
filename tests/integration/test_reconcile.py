"""Reconciling on a real Kafka: the live flow on one cut, faults by the tools that make them, and no group touched."""

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from streams.local import LocalKafka
from tests.support.contracts import Contracts
from tests.support.poison import write_schemas
from tests.support.reader import Reader
from tests.support.workers import ROOT, Crew, towpath, wait_for

MODULE = "tests.support.poison"
COUNT = 900


class Table(Crew):
    """A flow that has handled some events, in three lives of its worker, one of which was killed."""

    def __init__(self, directory: Path, bootstrap: str) -> None:
        self.name = f"poison-{uuid.uuid4().hex[:8]}"
        write_schemas(directory / "schemas", self.name)
        super().__init__(
            directory,
            {
                "TOWPATH_BOOTSTRAP": bootstrap,
                "TOWPATH_POISON": self.name,
                "TOWPATH_POISON_HOME": str(directory),
                "TOWPATH_DIR": str(directory),
                "TOWPATH_KAFKA": "transaction.timeout.ms=4000",
            },
        )
        towpath(self.environment, "topics", "apply", MODULE)
        self.contracts = Contracts(directory / "schemas")
        self.producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "log_level": 0})
        self.admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        self.asked, self.eaten, self.receipts = (f"{self.name}.{topic}" for topic in ("asked", "eaten", "receipts"))
        self.eater = self.start(MODULE, "eater", instance="only")
        self.sent = 0
        with Reader(bootstrap, [self.eaten]) as reader:
            for life in range(3):
                self.began = datetime.now(UTC).isoformat()  # of the last life
                self.send(COUNT // 3)
                wait_for(lambda life=life: reader.count(self.eaten) >= COUNT // 3 * life + 1, 60, "nothing is eaten", self.logs)  # type: ignore[misc]  # a default is no cell
                if life == 1:
                    self.eater.kill()
                    self.eater.start()
            wait_for(lambda: reader.count(self.eaten) >= COUNT, 90, "not all are eaten", self.logs)

    def send(self, count: int) -> None:
        for number in range(self.sent, self.sent + count):
            value = self.contracts.encode("Asked", {"key": f"k{number}", "seq": 0, "word": "fine"})
            self.producer.produce(self.asked, value, b"k%d" % number)
        self.sent += count
        assert self.producer.flush(30) == 0

    def reconcile(self, *arguments: str) -> tuple[int, dict[str, Any], str]:
        """Exit code, result and what was said beside."""
        environment = {"PATH": "/usr/bin:/bin", **self.environment}
        command = [sys.executable, "-m", "streams", "reconcile", MODULE, "--json", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
        return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr

    def kinds(self) -> list[str]:
        return [difference["kind"] for difference in self.reconcile()[1]["differences"]]

    def commit(self, by: int) -> None:
        """Move the group of a stage that is stopped by hand."""
        group = Consumer({"bootstrap.servers": self.environment["TOWPATH_BOOTSTRAP"], "group.id": f"{self.name}.eater"})
        (at,) = group.committed([TopicPartition(self.asked, 0)], 30)
        wait_for(lambda: _moved(group, TopicPartition(self.asked, 0, at.offset + by)), 60, "the group stays")
        group.close()


def _moved(group: Any, place: TopicPartition) -> bool:
    try:
        group.commit(offsets=[place], asynchronous=False)
    except KafkaException:  # the member that has left is still there for a moment
        return False
    return True


@pytest.fixture
def table(tmp_path: Path, kafka: LocalKafka) -> Iterator[Table]:
    with Table(tmp_path, kafka.bootstrap) as table:
        yield table


def test_a_flow_that_was_killed_adds_up_while_it_runs(table: Table, tmp_path: Path) -> None:
    code, result, said = table.reconcile("--report", str(tmp_path / "out.html"))
    assert (code, result["differences"], result["unknown"]) == (0, [], {}), said
    assert result["consumed"]["eater"][table.asked] == COUNT
    page = (tmp_path / "out.html").read_text()
    assert "http" not in page.replace("http-equiv", "")
    assert f"{COUNT:,}" in page
    for back in ("0s", "1h"):
        code, result, said = table.reconcile("--since", table.began, "--back", back)
        assert (code, result["differences"]) == (0, []), said
        assert (result["counts"][table.asked] < COUNT) is (back == "0s")
    assert table.eater.owned()["eater"], "the live group has its member still"


def test_a_truncated_topic_a_foreign_event_and_a_copy_are_named(table: Table) -> None:
    with Reader(table.environment["TOWPATH_BOOTSTRAP"], [table.eaten]) as reader:
        reader.to_end()
        records = [record for record in reader.records[table.eaten] if record.partition == 0]
    copied = records[-1]
    headers = list(copied.headers)
    table.producer.produce(table.eaten, copied.value, copied.key, 0, headers=headers)
    table.producer.produce(table.eaten, copied.value, copied.key, 0)
    assert table.producer.flush(30) == 0
    cut = records[3].offset
    for future in table.admin.delete_records([TopicPartition(table.eaten, 0, cut)]).values():
        future.result(30)
    code, result, _ = table.reconcile()
    assert code == 1
    kinds = [difference["kind"] for difference in result["differences"]]
    assert sorted(kinds) == ["doubled", "foreign", "lost", "lost", "lost"]
    causes = {dict(record.headers)["cause"].decode() for record in records[:3]}
    assert {d["ids"][0] for d in result["differences"] if d["kind"] == "lost"} == causes


def test_offsets_that_were_moved_by_hand_are_named(table: Table) -> None:
    assert table.eater.terminate()[0] == 0
    table.send(30)
    table.commit(2)
    assert table.kinds() == ["gap"]
    table.commit(-12)
    assert table.kinds() == ["overlap"]


def test_receipts_that_were_removed_are_named(table: Table) -> None:
    with Reader(table.environment["TOWPATH_BOOTSTRAP"], [table.receipts]) as reader:
        reader.to_end()
        receipts = reader.records[table.receipts]
    place = TopicPartition(table.receipts, receipts[0].partition, receipts[0].offset + 1)
    for future in table.admin.delete_records([place]).values():
        future.result(30)
    assert set(table.kinds()) == {"receipt-missing"}


def test_no_cluster_is_exit_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "streams", "--bootstrap", "127.0.0.1:1", "reconcile", "topologies.orders"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "TOWPATH_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert "no Kafka answers" in done.stderr
    assert "Traceback" not in done.stderr
