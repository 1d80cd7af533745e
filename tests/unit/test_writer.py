"""What a writer does about a transaction that came to nothing: which errors end it, and which a new producer mends."""

import logging
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streams import kafka_writer
from streams.errors import Aborted, Fenced
from streams.kafka_writer import Writer


def error(code: int, *, fatal: bool = False, abort: bool = False) -> KafkaException:
    return KafkaException(KafkaError(code, "it is said so", fatal=fatal, txn_requires_abort=abort))


class Broken:
    """A producer that fails in the calls that it is told to, the first time that it is made."""

    made = 0
    failing: dict[str, KafkaException] = {}  # noqa: RUF012  # the tests set it

    def __init__(self, _: dict[str, Any], **_rest: object) -> None:
        type(self).made += 1
        self.mine = self.failing if self.made == 1 else {}
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        def call(*_: Any) -> None:
            self.calls.append(name)
            if name in self.mine:
                raise self.mine[name]

        return call


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> type[Broken]:
    monkeypatch.setattr(kafka_writer, "Producer", Broken)
    monkeypatch.setattr(Broken, "made", 0)
    return Broken


def write(broken: type[Broken], failing: dict[str, KafkaException]) -> Writer:
    broken.failing = failing
    return Writer({}, "w", logging.getLogger("test"))


PLACES = [TopicPartition("in", 0, 1)]
LATE = KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER
STATE = KafkaError.INVALID_TXN_STATE


@pytest.mark.parametrize(
    "failing",
    [
        {"send_offsets_to_transaction": error(STATE, fatal=True)},
        {"commit_transaction": error(LATE, fatal=True)},
        {"send_offsets_to_transaction": error(STATE, abort=True), "abort_transaction": error(STATE, fatal=True)},
    ],
)
def test_a_new_producer_goes_on_where_no_commit_was_asked_for(made: type[Broken], failing: dict[str, KafkaException]) -> None:
    writer = write(made, failing)
    with pytest.raises(Aborted):
        writer.write([], PLACES, "group")
    writer.write([], PLACES, "group")
    assert made.made == 2
    assert writer._producer.calls == [
        "init_transactions",
        "begin_transaction",
        "send_offsets_to_transaction",
        "commit_transaction",
        "poll",
    ]


@pytest.mark.parametrize(
    "failing",
    [
        {"commit_transaction": error(STATE, fatal=True)},
        {"commit_transaction": error(STATE, abort=True), "abort_transaction": error(STATE, fatal=True)},
        {"send_offsets_to_transaction": error(KafkaError._FENCED, fatal=True)},
        {"send_offsets_to_transaction": error(STATE, abort=True), "abort_transaction": error(KafkaError._FENCED, fatal=True)},
        {"init_transactions": error(STATE, fatal=True)},
    ],
)
def test_who_was_fenced_or_may_have_committed_ends(made: type[Broken], failing: dict[str, KafkaException]) -> None:
    writer = write(made, failing)
    with pytest.raises(Fenced):
        writer.write([], PLACES, "group")
    assert made.made == 1


def test_an_ordinary_abort_keeps_the_producer(made: type[Broken]) -> None:
    writer = write(made, {"commit_transaction": error(STATE, abort=True)})
    with pytest.raises(Aborted):
        writer.write([], PLACES, "group")
    assert made.made == 1
    assert writer._producer.calls[-1] == "abort_transaction"
