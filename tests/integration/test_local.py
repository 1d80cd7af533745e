import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, Producer

from streams.errors import SetupError
from streams.local import FAILOVER, LocalKafka, down, status, up
from tests.support.kafka import make_topics


def write(bootstrap: str, topic: str, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "log_level": 0})
    producer.produce(topic, value)
    assert producer.flush(30) == 0


def read(bootstrap: str, topic: str, count: int) -> list[bytes | None]:
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": topic, "auto.offset.reset": "earliest", "log_level": 0},
    )
    try:
        consumer.subscribe([topic])
        return [message.value() for message in consumer.consume(count, 30)]
    finally:
        consumer.close()


def test_a_killed_broker_comes_back_on_the_same_address_with_its_data(tmp_path: Path) -> None:
    with LocalKafka.start(tmp_path / "über uns", overrides=FAILOVER) as kafka:
        address, first = kafka.bootstrap, kafka.pid
        topic = make_topics(address, {"kept": 1})["kept"]
        write(address, topic, b"before")

        kafka.kill()
        assert not kafka.running
        kafka.restart()

        assert kafka.bootstrap == address
        assert kafka.pid != first
        write(address, topic, b"after")
        assert read(address, topic, 2) == [b"before", b"after"]
        last = kafka.pid
    assert not psutil.pid_exists(first)
    assert not psutil.pid_exists(last)


def test_up_twice_at_once_is_one_broker_that_outlives_its_callers_and_keeps_its_data_when_down(tmp_path: Path) -> None:
    directory = tmp_path / ".towpath"
    program = "import json, pathlib, sys; from streams.local import up; print(json.dumps(up(pathlib.Path(sys.argv[1]))))"
    try:
        callers = [subprocess.Popen([sys.executable, "-c", program, directory], stdout=subprocess.PIPE) for _ in range(2)]
        first, second = (json.loads(caller.communicate(timeout=120)[0]) for caller in callers)
        assert first["running"]
        assert first == second == up(directory) == status(directory)
        topic = make_topics(first["bootstrap"], {"kept": 1})["kept"]
        write(first["bootstrap"], topic, b"1")

        stopped = down(directory)
        assert (stopped["running"], stopped["pid"], stopped["bootstrap"]) == (False, None, None)
        assert down(directory) == stopped

        with socket.create_server(("127.0.0.1", int(first["bootstrap"].split(":")[1]))):
            again = up(directory)
        assert again["bootstrap"] != first["bootstrap"]
        assert read(again["bootstrap"], topic, 1) == [b"1"]
    finally:
        down(directory)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("log.retention.ms", "soon"), ("metric.reporters", "no.such.Reporter")],
    ids=["refused when the storage is formatted", "refused when the broker starts"],
)
def test_a_broker_that_cannot_start_says_why_and_leaves_no_process(tmp_path: Path, setting: str, value: str) -> None:
    kafka = LocalKafka(tmp_path, overrides={setting: value})
    with pytest.raises(SetupError, match=re.escape(value)):
        kafka.launch()
    assert not kafka.running


def test_a_broker_that_is_not_ready_in_time_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.local._READY", 0.0)
    kafka = LocalKafka(tmp_path)
    with pytest.raises(SetupError, match="not ready"):
        kafka.launch()
    assert kafka.pid
    assert not kafka.running
