import importlib.util
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, Producer

from streams.config import Settings
from streams.local import LocalKafka
from streams.ops.cases import Book, Filters
from streams.ops.redrive import Desk
from streams.topology import Topology
from tests.support import clinic
from tests.support.ward import MODULE, Ward
from tests.support.workers import Worker, wait_for

MANY = 500


@pytest.fixture
def ward(tmp_path: Path, kafka: LocalKafka) -> Iterator[Ward]:
    with Ward(tmp_path, kafka.bootstrap) as ward:
        yield ward


def die(ward: Ward, count: int) -> Worker:
    """A keeper at work, with so many cases open that a redrive will close."""
    worker = ward.worker("keeper")
    ward.break_down()
    ward.send(*((f"k{number % 50}", number) for number in range(count)))
    ward.wait_for_cases(count)
    ward.repair()
    return worker


def check(ward: Ward, count: int) -> None:
    """Each record was handled once more, exactly."""
    ward.wait_for_cases(count, "resolved")
    assert Counter(size for _, size in ward.items("kept")) == Counter(range(count))


def operator(ward: Ward) -> Producer:
    """Another operator's tool: it has taken over when this returns."""
    producer = Producer(
        {"bootstrap.servers": ward.environment["TOWPATH_BOOTSTRAP"], "transactional.id": f"{ward.name}.cases.operator"}
        | {"log_level": 0, "transaction.timeout.ms": 300_000}
    )
    producer.init_transactions(30)
    return producer


def test_a_tool_that_is_killed_at_random_and_repeated_redrives_each_record_once(ward: Ward) -> None:
    die(ward, MANY)
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # noqa: T201  # to see a failure again
    for lines in sorted(random.Random(seed).sample(range(150), 4)):
        with ward.operator("cases", "redrive", MODULE, "--yes") as tool:
            assert tool.stdout
            for _ in range(lines):
                tool.stdout.readline()
            tool.kill()
    ward.cases("redrive", "--yes")
    check(ward, MANY)


def test_two_operators_at_once_while_the_stage_is_restarted_redrive_each_record_once(ward: Ward) -> None:
    worker = die(ward, MANY)
    redrive = ("cases", "redrive", MODULE, "--yes", "--rate", "50")
    tools = [ward.operator(*redrive)]
    assert tools[0].stdout
    tools[0].stdout.readline()
    worker.terminate()
    worker.start()
    wait_for(lambda: worker.ready, 60, "the worker is not ready", ward.logs)
    tools.append(ward.operator(*redrive))
    ends = [(*tool.communicate(timeout=120), tool.returncode) for tool in tools]
    assert not any("Traceback" in err for _, err, _ in ends)
    assert {code for _, _, code in ends} <= {0, 1, 3}, "1: what the other had done already was skipped"
    assert all("another operator" in err for _, err, code in ends if code == 3)
    ward.cases("redrive", "--yes")
    check(ward, MANY)


def test_what_another_has_decided_since_one_looked_is_not_decided_again(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    die(ward, 10)
    for name, value in ward.environment.items():
        monkeypatch.setenv(name, value)
    with Book(Settings.load(), load_copy()) as book:
        book.read()
        seen = Filters().choose(book.cases)
        ward.cases("redrive", "--yes")
        ward.wait_for_cases(10, "resolved")
        with Desk(book, "late", "") as desk:
            assert [(step.done, step.why) for step in desk.redrive(seen)] == [("skipped", "it is resolved")] * 10
            assert {step.done for step in desk.dismiss(seen)} == {"skipped"}
            assert desk.edit(seen[0], b"", "").done == "skipped"
    check(ward, 10)


def test_one_that_cannot_be_written_stops_no_other_and_who_decides_meanwhile_is_not_decided_over(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    die(ward, 10)
    for name, value in ward.environment.items():
        monkeypatch.setenv(name, value)
    with Book(Settings.load(), load_copy()) as book, Desk(book, "one", "") as desk:
        large, dismissed, *others = Filters().choose(book.cases)
        assert desk.edit(large, bytes(1_200_000), "").good  # it goes out with the record: too much for both
        meanwhile = [("dismiss", dismissed.case_id, "--yes", "--reason", "mine")]
        renew = desk._writer.renew

        def renewed() -> None:
            while meanwhile:
                ward.cases(*meanwhile.pop())
            renew()

        monkeypatch.setattr(desk._writer, "renew", renewed)
        done = {step.case_id: step for step in desk.redrive([book.cases[large.case_id], dismissed, *others])}
    assert done[large.case_id].done == "failed"
    assert (done[dismissed.case_id].done, done[dismissed.case_id].why) == ("skipped", "it has changed since it was looked at")
    assert {done[case.case_id].done for case in others} == {"redriven"}
    ward.wait_for_cases(8, "resolved")


def load_copy() -> Topology:
    """The clinic as the environment names it now."""
    spec = importlib.util.spec_from_file_location("clinic_copy", clinic.__file__)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    flow: Topology = module.flow
    return flow


def test_who_begins_later_takes_over_and_the_earlier_call_says_so(ward: Ward) -> None:
    die(ward, 40)
    with ward.operator("cases", "redrive", MODULE, "--yes", "--rate", "4") as tool:
        assert tool.stdout
        assert tool.stderr
        done = [tool.stdout.readline()]
        operator(ward)
        done += tool.stdout.readlines()
        assert tool.wait(30) == 3
        said = tool.stderr.read().splitlines()
    assert "another operator" in said[-1]
    assert len(ward.cases("list")) == 40 - len(done), "what it reported is what it did"
    assert len(ward.cases("redrive", "--yes")) == 40 - len(done)
    check(ward, 40)


def test_the_open_transaction_of_a_dead_tool_is_ended_and_never_seen(ward: Ward) -> None:
    die(ward, 3)
    (case, *_) = ward.cases("list")
    dead = operator(ward)
    dead.begin_transaction()
    headers = [("parked-seq", b"-1"), ("parked-attempt", b"0"), ("parked-due", b"0"), ("parked-timestamp", b"0")]
    key = f"{case['topic']}/{case['partition']}/{case['offset']}".encode()
    value = ward.contracts.encode("Sent", {"key": "never", "size": 99})
    dead.produce(f"{ward.name}.keeper.retry", value, key, case["partition"], headers=[*headers, ("parked-by", b"dead")])
    for partition in range(2):
        dead.produce(f"{ward.name}.cases", b"", b"never", partition)
    assert dead.flush(30) == 0
    began = time.monotonic()
    ward.cases("redrive", "--yes")
    check(ward, 3)
    assert time.monotonic() - began < 30, "and nobody waited for its timeout"
    with pytest.raises(KafkaException):
        dead.commit_transaction(10)
