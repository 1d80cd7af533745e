"""Records that no decent producer writes: each is handled or dead, byte for byte, and none stops its stage."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from streams.local import LocalKafka
from tests.support.flaky import fate
from tests.support.flow import Flow, header
from tests.support.reader import Reader
from tests.support.workers import wait_for

MALFORMED = """
import asyncio, sys
from aiokafka import AIOKafkaProducer

class Name(str):
    def encode(self, *_):
        return b"\\xff\\xfe"

async def main(bootstrap, topic, value):
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        headers = [("before", b"1"), (Name("x"), b"\\xfd"), ("after", b"2")]
        await producer.send_and_wait(topic, bytes.fromhex(value), key=b"bad-name", headers=headers)
    finally:
        await producer.stop()

asyncio.run(main(*sys.argv[1:]))
"""


class Course:
    """A flow at work, and a reader of its ends."""

    def __init__(self, flow: Flow, reader: Reader) -> None:
        self.flow = flow
        self.reader = reader
        self.seq = 0
        self._seen: Counter[str] = Counter()

    def good(self, key: str) -> bytes:
        """The value of a record that passes both stages at once."""
        while fate("split", key, self.seq) != "good" or fate("join", key, self.seq) != "good":
            self.seq += 1
        self.seq += 1
        return self.flow.contracts.encode("Asked", {"key": key, "seq": self.seq - 1})

    def dead(self) -> Any:
        """The dead letter of what was sent last."""
        return self._next(self.flow.dlqs[0])

    def answered(self) -> Any:
        return self._next(self.flow.topic("answered"))

    def _next(self, topic: str) -> Any:
        self.flow.producer.flush()
        self._seen[topic] += 1
        wait_for(lambda: self.reader.count(topic) >= self._seen[topic], 30, "it does not end", self.flow.logs)
        assert self.reader.count(topic) == self._seen[topic]
        return self.reader.records[topic][-1]

    def goes_on(self, partition: int) -> None:
        """A good record behind it, in the same partition, is answered, and no worker has ended."""
        self.flow.raw(b"next", self.good("next"), partition=partition)
        assert self.flow.items([self.answered()]) == [("next", self.seq - 1)]
        assert [worker.process.poll() for worker in self.flow.workers] == [None]


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory, kafka: LocalKafka) -> Iterator[Course]:
    with Flow(tmp_path_factory.mktemp("records"), kafka.bootstrap) as flow:
        flow.worker("a")
        with Reader(kafka.bootstrap, flow.ends) as reader:
            flow.wait_until_ready()
            yield Course(flow, reader)
        assert flow.workers[0].terminate()[0] == 0


HEADERS = [("id", b"1"), ("id", None), ("", b""), ("x", b"\xff\x00"), ("dead-origin", b"mine"), ("parked-by", b"me")]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        pytest.param(b"k", b"\xffno avro", id="bad bytes"),
        pytest.param(b"k", b"\x00\x00\x00\x00\x63", id="unknown schema"),
        pytest.param(b"k", b"", id="no bytes"),
        pytest.param(b"k", None, id="null value"),
        pytest.param(None, None, id="null key and value"),
        pytest.param(b"\xff\xfe", b"\x00", id="key that is not UTF-8"),
    ],
)
def test_what_is_no_event_is_dead_at_once_byte_for_byte(course: Course, key: bytes | None, value: bytes | None) -> None:
    course.flow.raw(key, value, HEADERS, partition=2)
    letter = course.dead()
    assert (letter.key, letter.value, letter.partition) == (key, value, 2)
    assert list(letter.headers[: len(HEADERS)]) == [(name, content) for name, content in HEADERS]
    assert header(letter, "dead-verdict") == b"undecodable"
    course.goes_on(2)


def test_a_null_key_is_no_lack_of_an_event(course: Course) -> None:
    course.flow.raw(None, course.good("keyless"), partition=3)
    assert course.flow.items([course.answered()]) == [("keyless", course.seq - 1)]


def test_two_hundred_headers_travel_on(course: Course) -> None:
    many = [(f"h{number}", b"%d" % number) for number in range(200)]
    course.flow.raw(b"many", course.good("many"), many)
    assert [pair for pair in course.answered().headers if pair[0].startswith("h")] == many


def test_a_header_that_is_not_utf_8_travels_on(course: Course) -> None:
    course.flow.raw(b"odd", course.good("odd"), [("x", b"\xff\xfe"), ("id", b"\xff"), ("traceparent", b"\xc3")])
    record = course.answered()
    assert header(record, "x") == b"\xff\xfe"
    assert header(record, "traceparent") == b"\xc3"
    assert len(header(record, "id") or b"") == 32


@pytest.mark.parametrize("kind", ["undecodable", "headers"])
def test_the_largest_record_that_a_topic_takes_is_dead_or_handled(course: Course, kind: str) -> None:
    room = 1_048_588 - 400  # the broker's default, less what a batch and its headers take
    if kind == "undecodable":
        value = b"\xff" * room
        course.flow.raw(b"large", value, partition=4)
        assert course.dead().value == value
    else:
        course.flow.raw(b"large", course.good("large"), [("blob", b"\xff" * room)], partition=4)
        assert header(course.dead(), "blob") == b"\xff" * room  # its output would be larger than the next topic takes
    course.goes_on(4)


def test_a_header_whose_name_is_not_utf_8_is_read_past(course: Course) -> None:
    """librdkafka's Python client cannot write one, so aiokafka does, without its compiled parts, which check more."""
    value = course.good("bad-name")
    arguments = [course.flow.environment["TOWPATH_BOOTSTRAP"], course.flow.topic("asked"), value.hex()]
    environment = os.environ | {"AIOKAFKA_NO_EXTENSIONS": "1"}
    subprocess.run([sys.executable, "-c", MALFORMED, *arguments], env=environment, check=True, timeout=30)
    record = course.answered()
    assert course.flow.items([record]) == [("bad-name", course.seq - 1)]
    assert [pair for pair in record.headers if pair[0] not in {"id", "cause", "born"}] == [
        ("before", b"1"),
        ("\ufffd", b"\xfd"),
        ("after", b"2"),
    ]
