"""What the writer does when librdkafka does not come back, or fails: what ends it, and what a new producer mends."""

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streams.errors import Aborted, Fenced, SetupError
from streams.kafka import writer as kafka_writer
from streams.kafka.writer import Undecided, Writer
from streams.record import Output

SOURCE = [TopicPartition("orders", 0, 1)]


class Producer:
    """The first one hangs in its second `send_offsets_to_transaction`, as with a coordinator that is gone; fails as told."""

    made: list["Producer"]
    failing: dict[str, KafkaException]
    refuses = False
    over: threading.Event

    def __init__(self, _: dict[str, Any], *, logger: logging.Logger) -> None:  # noqa: ARG002  # as librdkafka's
        self.done: list[str] = []
        self.made.append(self)

    def _may(self, call: str) -> None:
        if self.made[0] is self and call in self.failing:
            raise self.failing[call]

    def send_offsets_to_transaction(self, *_: Any) -> None:
        self._may("send_offsets")
        if self.made == [self] and "commit" in self.done:
            self.over.wait(60)

    def abort_transaction(self, _: float) -> None:
        if self.refuses:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "no coordinator", False, True))
        self._may("abort")
        self.done.append("abort")

    def init_transactions(self, _: float) -> None:
        self._may("init")
        self.done.append("init")

    def begin_transaction(self) -> None:
        self._may("begin")
        self.done.append("begin")

    def commit_transaction(self, _: float) -> None:
        if self.refuses:
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_MEMBER_ID, "a rebalance", False, False, True))
        self._may("commit")
        self.done.append("commit")

    def produce(self, *_: Any, **__: Any) -> None:
        pass

    def poll(self, _: float) -> None:
        pass

    def purge(self) -> None:
        pass

    def times_out(self, _: float) -> None:
        raise TimeoutError


@pytest.fixture(autouse=True)
def _double(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    Producer.made, Producer.over, Producer.failing = [], threading.Event(), {}
    monkeypatch.setattr(kafka_writer, "Producer", Producer)
    monkeypatch.setattr(kafka_writer, "_HUNG", 0.05)
    monkeypatch.setattr(kafka_writer, "_END", 0.05)
    yield
    Producer.over.set()


def test_a_transaction_whose_offsets_hang_did_not_happen_and_the_next_goes_by_a_new_producer() -> None:
    writer = Writer({}, "w", logging.getLogger("none"))
    writer.write([], SOURCE)
    with pytest.raises(Aborted, match="coordinator does not answer"):
        writer.write([], SOURCE)
    writer.write([], SOURCE)
    assert [each.done for each in Producer.made] == [["init", "begin", "commit", "begin"], ["init", "begin", "commit"]]


def test_outputs_are_handed_over_while_the_offsets_are_on_their_way_and_the_commit_waits_for_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handed, arrived = threading.Event(), threading.Event()

    def send_offsets(_: Producer, *__: Any) -> None:
        assert handed.wait(60)
        arrived.set()

    def commit(_: Producer, __: float) -> None:
        assert arrived.is_set()

    monkeypatch.setattr(kafka_writer, "_HUNG", 60)
    monkeypatch.setattr(Producer, "send_offsets_to_transaction", send_offsets)
    monkeypatch.setattr(Producer, "produce", lambda *_, **__: handed.set())
    monkeypatch.setattr(Producer, "commit_transaction", commit)
    Writer({}, "w", logging.getLogger("none")).write([Output("out", b"k", b"v")], SOURCE)


def test_nothing_is_undone_while_the_offsets_are_on_their_way(monkeypatch: pytest.MonkeyPatch) -> None:
    aborted, early = threading.Event(), []

    def fails(_: Producer, *__: Any, **___: Any) -> None:
        raise error(STATE, abort=True)

    monkeypatch.setattr(kafka_writer, "_HUNG", 60)
    monkeypatch.setattr(Producer, "send_offsets_to_transaction", lambda *_: early.append(aborted.wait(0.1)))
    monkeypatch.setattr(Producer, "produce", fails)
    monkeypatch.setattr(Producer, "abort_transaction", lambda *_: aborted.set())
    with pytest.raises(Aborted):
        Writer({}, "w", logging.getLogger("none")).write([Output("out", b"k", b"v")], SOURCE)
    assert early == [False]  # librdkafka refuses two calls at once
    assert aborted.is_set()


def test_who_is_told_to_stop_does_not_wait_for_offsets_that_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_writer, "_HUNG", 60)
    monkeypatch.setattr(kafka_writer, "_STEP", 0.05)
    writer = Writer({}, "w", logging.getLogger("none"))
    writer.write([], SOURCE)
    threading.Timer(0.2, setattr, (writer, "stopping", True)).start()
    with pytest.raises(Fenced, match="told to stop"):
        writer.write([], SOURCE)


def test_who_gets_no_answer_gives_the_next_producer_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    def until_done(_: Writer, call: Any, *__: Any, patience: float = 0.0) -> None:
        waits.append(patience)
        call(0.0)

    monkeypatch.setattr(Writer, "_until_done", until_done)
    monkeypatch.setattr(Producer, "commit_transaction", Producer.times_out)
    writer = Writer({}, "w", logging.getLogger("none"))
    for _ in range(4):
        with pytest.raises(Undecided):
            writer.write([])
    commits = [round(wait / kafka_writer._END) for wait in waits if wait and wait != kafka_writer._OPEN]
    assert commits == [1, 2, 3, 3]


def test_a_transaction_that_cannot_be_aborted_did_not_happen_and_the_next_goes_by_a_new_producer() -> None:
    writer = Writer({}, "w", logging.getLogger("none"))
    Producer.refuses = True
    with pytest.raises(Aborted, match="a rebalance"):
        writer.write([])
    Producer.refuses = False
    writer.write([])
    assert [each.done for each in Producer.made] == [["init", "begin"], ["init", "begin", "commit"]]


LATE = KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER
STATE = KafkaError.INVALID_TXN_STATE
SILENCE = KafkaException(KafkaError(KafkaError._TIMED_OUT, "no answer", False, True))


def error(code: int, *, fatal: bool = False, abort: bool = False) -> KafkaException:
    return KafkaException(KafkaError(code, "it is said so", fatal=fatal, txn_requires_abort=abort))


@pytest.mark.parametrize(
    "failing",
    [
        {"send_offsets": error(STATE, fatal=True)},
        {"commit": error(LATE, fatal=True)},
        {"send_offsets": error(STATE, abort=True), "abort": error(STATE, fatal=True)},
    ],
)
def test_a_new_producer_goes_on_where_no_commit_was_asked_for(failing: dict[str, KafkaException]) -> None:
    Producer.failing = failing
    writer = Writer({}, "w", logging.getLogger("none"))
    with pytest.raises(Aborted):
        writer.write([], SOURCE)
    writer.write([], SOURCE)
    assert [each.done for each in Producer.made] == [["init", "begin"], ["init", "begin", "commit"]]


@pytest.mark.parametrize(
    "failing",
    [
        {"commit": error(STATE, fatal=True)},
        {"commit": error(STATE, abort=True), "abort": error(STATE, fatal=True)},
        {"commit": SILENCE},
    ],
)
def test_a_commit_that_was_asked_for_is_left_to_a_new_producer_to_decide(failing: dict[str, KafkaException]) -> None:
    Producer.failing = failing
    writer = Writer({}, "w", logging.getLogger("none"))
    with pytest.raises(Undecided):
        writer.write([], SOURCE)
    writer.open()
    assert [each.done for each in Producer.made] == [["init", "begin"], ["init"]]


@pytest.mark.parametrize(
    "failing",
    [
        {"send_offsets": error(KafkaError._FENCED, fatal=True)},
        {"commit": error(KafkaError._FENCED, fatal=True)},
        {"send_offsets": error(STATE, abort=True), "abort": error(KafkaError._FENCED, fatal=True)},
    ],
)
def test_who_was_fenced_ends(failing: dict[str, KafkaException]) -> None:
    Producer.failing = failing
    writer = Writer({}, "w", logging.getLogger("none"))
    with pytest.raises(Fenced):
        writer.write([], SOURCE)
    assert len(Producer.made) == 1


def test_who_was_fenced_ends_also_where_the_transactions_timeout_was_set_by_a_user() -> None:
    Producer.failing = {"commit": error(KafkaError._FENCED, fatal=True)}
    with pytest.raises(Fenced, match="another producer"):
        Writer({"transaction.timeout.ms": "8000"}, "w", logging.getLogger("none")).write([], SOURCE)


def test_who_was_fenced_while_idle_ends_by_its_next_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    fenced = error(KafkaError._FENCED, fatal=True)

    def poll(_: Producer, __: float) -> None:
        raise fenced

    writer = Writer({}, "w", logging.getLogger("none"))
    writer.open()
    monkeypatch.setattr(Producer, "poll", poll)
    Producer.failing = {"begin": fenced}
    writer.serve()
    with pytest.raises(Fenced, match="another producer"):
        writer.write([], SOURCE)


def test_who_is_fenced_as_it_registers_tries_again_with_a_new_producer() -> None:
    Producer.failing = {"init": error(KafkaError._FENCED, fatal=True)}
    writer = Writer({}, "w", logging.getLogger("none"))
    writer.open()
    assert [each.done for each in Producer.made] == [[], ["init"]]


def test_who_may_not_register_says_what_to_do() -> None:
    Producer.failing = {"init": error(KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, fatal=True)}
    with pytest.raises(SetupError, match=r"transactional id w: the cluster refuses a producer.*transaction\.timeout\.ms"):
        Writer({}, "w", logging.getLogger("none")).open()


@pytest.mark.parametrize(
    ("failing", "outcome"),
    [
        ({"send_offsets": error(KafkaError._FENCED, fatal=True)}, Aborted),
        ({"commit": error(KafkaError._FENCED, fatal=True)}, Undecided),
        ({"send_offsets": error(STATE, abort=True), "abort": error(KafkaError._FENCED, fatal=True)}, Aborted),
    ],
)
def test_who_may_have_been_fenced_by_a_producer_of_its_own_goes_on(
    failing: dict[str, KafkaException], outcome: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_writer, "_OPEN", 0.05)
    writer = Writer({}, "w", logging.getLogger("none"))
    Producer.failing = {"init": SILENCE}
    writer.open()  # the first may still register
    Producer.made, Producer.failing = Producer.made[1:], failing
    with pytest.raises(outcome):
        writer.write([], SOURCE)
    writer.open()
    assert [each.done for each in Producer.made] == [["init", "begin"], ["init"]]


@pytest.mark.parametrize(("silent", "outcome"), [(3, Undecided), (2, Fenced)])
def test_a_transaction_past_its_timeout_was_ended_by_the_coordinator_and_by_no_successor(
    silent: int, outcome: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([SILENCE] * silent + [error(KafkaError._FENCED, fatal=True)])

    def commit(*_: Any) -> None:
        raise next(answers)

    monkeypatch.setattr(kafka_writer, "_END", 60)
    monkeypatch.setattr(Producer, "commit_transaction", commit)
    writer = Writer({"transaction.timeout.ms": 4000}, "w", logging.getLogger("none"))
    with pytest.raises(outcome):
        writer.write([], SOURCE)


def test_a_transaction_that_cannot_begin_after_a_commit_did_not_happen() -> None:
    writer = Writer({}, "w", logging.getLogger("none"))
    writer.write([])
    Producer.failing = {"begin": error(STATE, fatal=True)}
    with pytest.raises(Aborted):
        writer.write([])


def test_who_cannot_register_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_writer, "_OPEN", 0.05)
    Producer.failing = {"init": SILENCE}
    writer = Writer({}, "w", logging.getLogger("none"))
    writer.write([], SOURCE)
    assert [each.done for each in Producer.made] == [[], ["init", "begin", "commit"]]


def test_an_ordinary_abort_is_the_producers_last_deed() -> None:
    Producer.failing = {"commit": error(STATE, abort=True)}
    writer = Writer({}, "w", logging.getLogger("none"))
    with pytest.raises(Aborted):
        writer.write([], SOURCE)
    writer.write([], SOURCE)
    assert [each.done for each in Producer.made] == [["init", "begin", "abort"], ["init", "begin", "commit"]]
