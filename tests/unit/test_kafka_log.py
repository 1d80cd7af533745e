"""What librdkafka says in the log while a broker is away."""

import logging

import pytest

from streams.kafka.session import OncePerWhile


def line(text: str, at: float, level: int = logging.WARNING) -> logging.LogRecord:
    record = logging.LogRecord("towpath.librdkafka", level, "", 0, text, (), None)
    record.created = at
    return record


def test_one_complaint_of_a_kind_is_written_and_the_rest_counted() -> None:
    quiet = OncePerWhile()
    assert quiet.filter(line("FAIL refused", 0))
    assert not any(quiet.filter(line("FAIL refused", second)) for second in range(1, 30))
    assert quiet.filter(line("FENCED by another", 5)), "another kind is not kept back with it"
    later = line("FAIL refused", 31)
    assert quiet.filter(later)
    assert later.getMessage() == "FAIL refused (29 more like this)"


@pytest.mark.parametrize(
    "text",
    [
        "TXNERR Current transaction failed in state InTransaction: (ILLEGAL_GENERATION)",
        "ADDOFFSETS TxnCoordinator/1: Failed to add offsets to transaction on broker TxnCoordinator/1: Local: Timed out",
    ],
)
def test_a_transaction_that_is_done_again_is_no_error(text: str) -> None:
    """Every rebalance may have one: who is called at night for it looks for nothing."""
    undone = line(text, 0, logging.ERROR)
    assert OncePerWhile().filter(undone)
    assert (undone.levelno, undone.levelname) == (logging.INFO, "INFO")
    fatal = line("TXNERR Fatal transaction error: this producer is fenced", 0, logging.CRITICAL)
    assert OncePerWhile().filter(fatal)
    assert fatal.levelno == logging.CRITICAL
