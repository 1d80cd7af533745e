"""All hostile records at once through worker processes on a real Kafka and PostgreSQL, and the operators' verbs after that.

Each ends as the catalogue says, a good order behind each goes through, no worker ends or grows, and no log has a traceback.
"""

import itertools
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka import Producer

from streams import names
from streams.config import Settings
from streams.local import FAILOVER, LocalKafka
from tests.hostile.catalogue import MARK, SHELVES, SUBMITTED, Hostile, order, order_id
from tests.hostile.ends import Ends
from tests.hostile.files import LINES, MIB
from tests.hostile.records import RECORDS
from tests.support.reader import Reader
from tests.support.workers import ROOT, Crew, Worker, towpath, wait_for
from topologies.orders import orders
from topologies.orders.seed import seed

MODULE = "topologies.orders"
LARGEST_WORKER = 300 * MIB  # of memory, ever; the records alone are 12 MiB
STAGES = tuple(stage.name for stage in orders.stages)
LETTERS = {stage: names.dlq(orders.name, stage) for stage in STAGES}
CASES, TOLD, WAITING = names.cases(orders.name), "notifications.sent", names.retry(orders.name, "settlement")


class Course:
    """The flow at work, and what has come of it so far."""

    def __init__(self, bootstrap: str, crew: Crew, reader: Reader) -> None:
        self.crew = crew
        self.reader = reader
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "linger.ms": 5, "message.max.bytes": 2 * MIB, "log_level": 0}
        )
        self._refused: list[str] = []

    def send(self, cases: Sequence[Hostile]) -> dict[str, str]:
        """Send them, and behind each in its partition a good order. Returns the good ones' numbers by case."""
        goods = {}
        for case, turn in zip(cases, itertools.cycle(range(orders.partitions)), strict=False):
            partition = turn if case.partition is None else case.partition
            good = goods[case.name] = order_id(f"behind-{case.name}", partition, orders.partitions)
            self._produce(case.topic, case.key, case.value, case.marked, partition)
            self._produce(SUBMITTED, good.encode(), order(good), [(MARK, good.encode())], partition)
        assert self._producer.flush(30) == 0
        assert self._refused == []
        return goods

    def pollute(self, topics: Sequence[str]) -> None:
        """Bytes that nobody of us wrote, where programs look that are no stages."""
        for topic in topics:
            for value in (b"", b"\xff" * 100, b"\0\0\0\0\x0a\xff", b"\0\0\0\0\x18" + b"\xff" * 50):
                self._produce(topic, b"\xff\xfe", value, [("dead-origin", b"x/9" + b"9" * 30 + b"/1"), ("x", None)], 0)
        assert self._producer.flush(30) == 0

    def _produce(self, topic: str, key: bytes | None, value: bytes | None, headers: Any, partition: int) -> None:
        self._producer.produce(topic, value, key, partition, headers=headers, on_delivery=self._delivered)
        self._producer.poll(0)

    def _delivered(self, error: Any, message: Any) -> None:
        if error:
            self._refused.append(f"{message.topic()} {message.key()!r:.50}: {error}")

    def marks(self, *topics: str) -> set[str]:
        """The cases of which something has come to these topics."""
        found = (record.headers for topic in topics for record in tuple(self.reader.records[topic]))
        return {value.decode() for headers in found for name, value in headers if name == MARK and value}

    def ends(self) -> Ends:
        records = self.reader.records
        return Ends({stage: records[dlq] for stage, dlq in LETTERS.items()}, records[TOLD], records[CASES])


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LocalKafka]:
    """Its own: the topics of the order flow have names that any other test might use."""
    with LocalKafka.start(tmp_path / "kafka", overrides=FAILOVER) as kafka:
        yield kafka


@pytest.mark.timeout(300)
def test_hostile_records_all_at_once(tmp_path: Path, broker: LocalKafka, postgres_url: str) -> None:
    environment = {"TOWPATH_BOOTSTRAP": broker.bootstrap, "TOWPATH_DIR": str(tmp_path), "TOWPATH_STORE": postgres_url}
    environment["TOWPATH_DECLINE_SHARE"] = "0"
    towpath(environment, "topics", "apply", MODULE)
    towpath(environment, "db", "upgrade", MODULE)
    seed(Settings.load(environment), [SHELVES], short=0)
    topics = [TOLD, CASES, WAITING, *LETTERS.values()]
    with Crew(tmp_path, environment) as crew, Reader(broker.bootstrap, topics) as reader:
        workers = [crew.start(MODULE, *STAGES[:3], instance="a"), crew.start(MODULE, *STAGES[3:], instance="b")]
        crew.wait_until_ready(120)
        course = Course(broker.bootstrap, crew, reader)
        goods = course.send(RECORDS)
        _wait(course, goods)
        ends = course.ends()
        waiting = {case.name for case in RECORDS if (case.stage, case.end) == ("settlement", "retry")}
        assert waiting <= course.marks(WAITING)  # its eight attempts take a minute
        for case in RECORDS:
            if case.name not in waiting:
                ends.check(case)
        assert not [case for case in ends.cases.values() if "APPLE" in case["message"]]
        assert {ends.endings.get(good) for good in goods.values()} == {"confirmed"}
        _check_workers(workers)
        course.pollute([CASES, names.receipts(orders.name), *LETTERS.values(), *(names.retry(orders.name, s) for s in STAGES)])
        _check_verbs(environment, tmp_path)
        after = course.send([RECORDS[0]])  # what was written to the tables has stopped nobody
        wait_for(lambda: set(after.values()) <= course.marks(TOLD), 60, "it does not go on", crew.logs)
        _check_workers(workers)
        for worker in workers:
            assert worker.terminate()[0] == 0, worker.log[-3000:]


def _wait(course: Course, goods: dict[str, str]) -> None:
    """Until whatever is to come of them has."""
    told = {case.name for case in RECORDS if case.end == "told"} | set(goods.values())
    ends = {case.name for case in RECORDS if case.end not in ("told", "silent")}

    def missing() -> str:
        return f"{sorted(told - course.marks(TOLD))} {sorted(ends - course.marks(WAITING, *LETTERS.values()))}"

    wait_for(lambda: missing() == "[] []", 120, "something does not end", lambda: missing() + course.crew.logs())
    course.reader.to_end()


def _check_workers(workers: Sequence[Worker]) -> None:
    """They are alive, small, and have nothing to complain of."""
    for worker in workers:
        assert (worker.process.poll(), worker.ends) == (None, []), worker.log[-3000:]
        peak = _peak(worker.process.pid)
        print(f"{worker.name}: {peak // MIB} MiB at most")  # noqa: T201  # the figure, for whoever looks
        assert peak < LARGEST_WORKER
        levels = {json.loads(line)["level"] for line in worker.log.splitlines() if line.startswith("{")}
        assert levels <= {"INFO", "WARNING"}, worker.log[-3000:]
        assert "Traceback" not in worker.log
        assert "APPLE" not in worker.log  # what customers order is nothing for a log


def _peak(pid: int) -> int:
    """Bytes of memory that a process has ever had; where the system does not say, that it has."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return int(psutil.Process(pid).memory_info().rss)
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
    assert found
    return int(found[1]) * 1024


def _check_verbs(environment: dict[str, str], tmp_path: Path) -> None:
    """Whoever looks at it is told, and never by a traceback."""
    file = tmp_path / "lines.jsonl"
    file.write_bytes(b"".join(line.data.replace(b"\n", b" ") + b"\n" for line in LINES))
    code, out, err = _run(environment, "send", MODULE, "OrderSubmitted", str(file))
    sent = json.loads(out)
    bad = [at for at, line in enumerate(LINES, 1) if line.says or line.name == "long"]  # no topic takes 10 MB
    assert (code, sent["sent"], sent["bad"]) == (1, len(LINES) - len(bad), len(bad))
    assert sorted(int(at) for at in re.findall(rf"{re.escape(str(file))}:(\d+): ", err)) == bad
    stories = [("order", MODULE, name) for name in ("stranger", "'; DROP TABLE orders; --")]
    for verb in (
        ("cases", "list", MODULE),
        ("reconcile", MODULE, "--report", str(tmp_path / "report.html")),
        ("lag", MODULE),
        ("tail", "--from-beginning", "--until-end", SUBMITTED, "orders.cancelled", CASES, *LETTERS.values()),
        *stories,
    ):
        code, _, err = _run(environment, *verb)
        assert code in (0, 1, 2), (verb, err[-2000:])
        assert "Traceback" not in err, (verb, err[-3000:])


def _run(environment: dict[str, str], *arguments: str) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "streams", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env={"PATH": "/usr/bin:/bin", **environment}, capture_output=True, timeout=120, check=False
    )
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
