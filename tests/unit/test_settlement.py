"""What the provider says of its payments, against our own books; in memory, by the test's own clock."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from streams.dead import State
from streams.testing import Simulation
from topologies.orders import orders
from topologies.orders.events import (
    Closing,
    OrderClosed,
    OrderDisputed,
    PaymentCaptured,
    PaymentDisputed,
    PaymentRefunded,
    PaymentSettled,
)
from topologies.orders.ports import Letter, mail

AT = datetime(2024, 5, 1, tzinfo=UTC)
CAPTURED = PaymentCaptured("o1", "c1", "EUR", 500, "pay_1")
SETTLED = PaymentSettled("o1", "pay_1", "EUR", 500, AT)
REFUNDED = PaymentRefunded("o1", "c1", "EUR", 500, "pay_1", "cancelled", "Nobody wants it.")
DISPUTED = PaymentDisputed("o1", "pay_1", "EUR", 500, AT)


class Letters:
    """A mailer that keeps what it is given."""

    def __init__(self) -> None:
        self.sent: list[Letter] = []

    def send(self, letter: Letter) -> None:
        self.sent.append(letter)


@pytest.fixture
def flow() -> Iterator[Simulation]:
    with Simulation(orders, stages=["settlement"]) as flow:
        yield flow


def produce(flow: Simulation, *events: Any) -> None:
    for event in events:
        flow.produce(event)
    flow.run(seconds=1)


@pytest.mark.parametrize("early", [True, False])
def test_a_payment_of_ours_is_settled_whatever_comes_first(flow: Simulation, early: bool) -> None:
    if early:
        produce(flow, SETTLED, DISPUTED)
        assert len(flow.parked("settlement")) == 2
        produce(flow, CAPTURED)
    else:
        produce(flow, CAPTURED, DISPUTED, SETTLED)
    flow.run(seconds=120)
    assert (flow.cases(), flow.parked("settlement")) == ([], [])
    assert flow.outputs(OrderDisputed) == [OrderDisputed("o1", "c1", "pay_1", "EUR", 500)]


def test_an_unknown_payment_is_a_case_once_its_capture_had_time_to_come(flow: Simulation) -> None:
    produce(flow, SETTLED, DISPUTED)
    assert flow.cases() == []
    flow.run(seconds=300)
    assert {(case.state, case.stage, case.topic) for case in flow.cases()} == {
        (State.OPEN, "settlement", "payments.settled"),
        (State.OPEN, "settlement", "payments.disputed"),
    }
    assert "no payment pay_1 is on our books" in flow.cases()[0].message
    assert flow.outputs(OrderDisputed) == []


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (PaymentSettled("o1", "pay_1", "EUR", 501, AT), "is of 500 EUR, not 501 EUR"),
        (PaymentSettled("o1", "pay_1", "EUR", 0, AT), "not 0 EUR"),
        (PaymentSettled("o1", "pay_1", "USD", 500, AT), "not 500 USD"),
        (PaymentSettled("o2", "pay_1", "EUR", 500, AT), "of order o1, not o2"),
        (PaymentDisputed("o1", "pay_1", "EUR", 900, AT), "not 900 EUR"),
        (PaymentRefunded("o1", "c1", "EUR", 501, "pay_1", "cancelled", ""), "not 501 EUR"),
    ],
)
def test_what_our_books_do_not_say_is_a_case_at_once(flow: Simulation, told: Any, says: str) -> None:
    produce(flow, CAPTURED)
    produce(flow, told, SETTLED)
    (case,) = flow.cases()
    assert (case.verdict, says in case.message) == ("reject", True), case.message
    assert flow.outputs(OrderDisputed) == []


def test_money_is_settled_once(flow: Simulation) -> None:
    produce(flow, CAPTURED)
    produce(flow, SETTLED)
    produce(flow, SETTLED)
    (case,) = flow.cases()
    assert "settled before" in case.message


def test_a_payment_is_given_back_once_on_our_books_too_whatever_comes_first(flow: Simulation) -> None:
    produce(flow, REFUNDED)
    assert len(flow.parked("settlement")) == 1
    produce(flow, CAPTURED)
    flow.run(seconds=120)
    assert (flow.cases(), flow.parked("settlement")) == ([], [])
    produce(flow, REFUNDED)
    (case,) = flow.cases()
    assert "given back before, with 500" in case.message


def test_a_customer_hears_of_a_dispute_and_the_order_ends_no_second_time() -> None:
    letters = Letters()
    with Simulation(orders, stages=["settlement", "notification"], ports={mail: letters}) as flow:
        produce(flow, CAPTURED, OrderClosed("o1", "c1", "EUR", 500, Closing.CONFIRMED, "pay_1"))
        produce(flow, DISPUTED)
        assert [letter.subject for letter in letters.sent] == [
            "Your order o1 is confirmed",
            "Your bank disputes the payment of order o1",
        ]
        assert "5.00 EUR" in letters.sent[1].message
        assert (letters.sent[1].customer_id, len(flow.broker.read("notifications.sent"))) == ("c1", 1)
