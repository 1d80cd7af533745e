import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from streams import database
from streams.codec import Codec
from streams.config import Settings
from streams.logs import set_up
from streams.process import Processor
from streams.record import Record
from streams.registry import FolderRegistry
from streams.stage import Context, Stage
from tests.support.moves import Answered, Asked, schemas, start

SETTINGS = Settings.load(
    {
        "TOWPATH_STORE": "postgresql://towpath:S3cr3t%21word@db/towpath",
        "TOWPATH_PSP_API_KEY": "sk_live_12345",
        "TOWPATH_BOOTSTRAP": "kafka-1:9092",
        "TOWPATH_KAFKA": "sasl.password=sasl-word;sasl.username=towpath",
    }
)
log = logging.getLogger("towpath.test")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_each_line_in_a_pipe_is_one_object_also_with_a_traceback() -> None:
    set_up(stream := io.StringIO())
    log.info("stage %s\nowns", "a")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        log.exception("it failed", extra={"stage": "a", "partition": 0})
    said, failed = lines(stream)
    assert (said["level"], said["logger"], said["message"]) == ("INFO", "towpath.test", "stage a\nowns")
    assert said["time"].endswith("Z")
    assert (failed["stage"], failed["partition"]) == ("a", 0)
    assert failed["error"].endswith("ValueError: two\nlines")


def test_a_terminal_gets_lines_for_people() -> None:
    set_up(stream := Terminal())
    log.warning("it waits", extra={"stage": "a"})
    assert stream.getvalue().endswith("WARNING towpath.test: it waits  [stage=a]\n")


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize(
    ("said", "hidden", "left"),
    [
        ("connecting to postgresql://towpath:S3cr3t%21word@db/towpath", "S3cr3t", "@db/towpath"),
        ("the password S3cr3t!word is wrong", "S3cr3t!word", "is wrong"),
        ("key sk_live_12345 was refused", "sk_live_12345", "was refused"),
        ("sasl.password=sasl-word", "sasl-word", "sasl.password"),
        ("to amqp://guest:other-word@mq/", "other-word", "@mq/"),
        ("header Authorization: Bearer eyJhbGciOi.J9", "eyJhbGciOi", "Authorization"),
        ("signed with whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "MfKQ9r8", "signed with"),
        ("charged 4111 1111 1111 1111 twice", "1111", "twice"),
        ("charged 5555555555554444", "5555555555554444", "charged"),
        ("wrote to ann.o'neill+shop@mail.example.com", "ann", "wrote to"),
    ],
)
def test_no_secret_card_or_mail_address_gets_into_a_line(said: str, hidden: str, left: str, *, terminal: bool) -> None:
    set_up(stream := Terminal() if terminal else io.StringIO(), SETTINGS)
    log.warning("%s", said)
    try:
        raise RuntimeError(said)
    except RuntimeError:
        log.exception("failed", extra={"event_id": said})
    assert hidden not in stream.getvalue()
    assert stream.getvalue().count(left) == 3


@pytest.mark.parametrize(
    "said",
    [
        "order 31225595939",
        "at 1732448262123",
        "orders.accepted[3]@4000000000000002",
        "kafka-1:9092",
        "trace 4111111111111111aa",
    ],
)
def test_what_only_looks_like_a_card_stays(said: str) -> None:
    set_up(stream := io.StringIO(), SETTINGS)
    log.info(said)
    assert lines(stream)[0]["message"] == said


def test_what_a_handler_logs_says_at_which_record_and_what_follows_does_not() -> None:
    set_up(stream := io.StringIO())
    alone, waiting = Stage("alone"), Stage("waiting")

    @alone.on
    def now(asked: Asked, _: Context) -> Answered:
        log.info("sync")
        return Answered(asked.who, asked.number, 0)

    @waiting.on
    async def later(asked: Asked, _: Context) -> Answered:
        await asyncio.sleep(0)
        log.info("async %d", asked.number)
        return Answered(asked.who, asked.number, 0)

    codec = Codec([Asked, Answered], FolderRegistry(schemas()))
    value = codec.encoder(Asked)(Asked("k", 1))
    records = [Record("moves.asked", 2, offset, b"k", value, (("id", b"x%d" % offset),)) for offset in (7, 8)]
    parent = ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")
    traced = msgspec.structs.replace(records[0], headers=(*records[0].headers, parent))

    async def both() -> None:
        await asyncio.gather(*(Processor(waiting, codec, {}).run(record, 1, 0.0) for record in records))
        log.info("after")

    asyncio.run(Processor(alone, codec, {}).run(traced, 3, 0.0))
    log.info("between")
    asyncio.run(both())
    sync, between, first, second, after = lines(stream)
    where = {"stage": "alone", "topic": "moves.asked", "partition": 2, "offset": 7, "attempt": 3, "event_id": "x7", "key": "k"}
    assert {name: sync[name] for name in where} == where
    assert sync["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert "trace_id" not in first | second, "no header says so"
    assert {one["offset"] for one in (first, second)} == {7, 8}
    assert "offset" not in between | after


def test_a_run_with_failures_logs_no_word_of_an_event_and_no_line_for_a_success() -> None:
    set_up(stream := io.StringIO())
    with start() as flow:
        for number in range(50):
            flow.produce(Asked("marked-secret", number))
        flow.produce(Asked("marked-secret", 51, ("retry", "bug", "reject")))
        flow.broker.produce("moves.asked", b"marked-secret", b"marked-secret")
        flow.broker.abort_next("moves.play.a")
        flow.run(seconds=100)
        assert len(flow.outputs(Answered)) == 50
        assert len(flow.letters("play")) == 2
    assert "marked-secret" not in stream.getvalue()
    assert len(lines(stream)) < 10, stream.getvalue()
    assert any("transaction" in line["message"] for line in lines(stream)), "this run logged something"


def test_a_databases_error_does_not_say_what_was_to_be_written() -> None:
    engine = database.connect("sqlite://")
    with engine.connect() as connection, pytest.raises(OperationalError) as refused:
        connection.execute(text("INSERT INTO missing VALUES (:name)"), {"name": "marked-secret"})
    engine.dispose()
    assert "no such table" in str(refused.value)
    assert "marked-secret" not in str(refused.value)
