"""Intake: what is trusted afterwards, and what a customer is told who is turned down."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from topologies.orders.events import Demand, OrderAccepted, OrderLine, OrderRejected, OrderSubmitted
from topologies.orders.intake import judge
from topologies.orders.money import CURRENCIES, amount

PLACED = datetime(2017, 1, 1, 11, 53, tzinfo=UTC)
BAGEL, MILK = OrderLine("1", "BAGEL", 2, 100), OrderLine("2", "MILK", 1, 250)
ORDER = OrderSubmitted("o1", "c1", "s1", PLACED, "USD", (BAGEL, MILK))
LARGEST = 2**63 - 1


def order(**changes: Any) -> OrderSubmitted:
    return msgspec.structs.replace(ORDER, **changes)


def test_a_good_order_is_accepted_with_its_total_and_demand() -> None:
    demand = (Demand("1", "BAGEL", 2), Demand("2", "MILK", 1))
    assert judge(ORDER) == OrderAccepted("o1", "c1", "s1", PLACED, "USD", 350, demand)


def test_a_sku_on_two_lines_is_one_demand() -> None:
    accepted = judge(order(lines=(BAGEL, MILK, OrderLine("1", "BAGELS", 3, 150))))
    assert isinstance(accepted, OrderAccepted)
    assert accepted.demand == (Demand("1", "BAGEL", 5), Demand("2", "MILK", 1))
    assert accepted.total_minor == 500


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ({"order_id": ""}, "order-id-missing", "order number"),
        ({"order_id": "a\x00b"}, "order-id-missing", "order number"),
        ({"order_id": "o" * 256}, "order-id-missing", "order number"),
        ({"customer_id": "  "}, "customer-id-missing", "customer number"),
        ({"currency": "usd"}, "currency-unknown", "“usd”"),
        ({"currency": "X" * 9999}, "currency-unknown", f"“{'X' * 20}”"),
        ({"lines": ()}, "no-lines", "nothing in the order"),
        ({"lines": (BAGEL,) * 1001}, "too-many-lines", "1001 lines"),
        ({"lines": (BAGEL, OrderLine("", "X", 1, 1))}, "sku-missing", "Line 2"),
        ({"lines": (BAGEL, OrderLine("9", "EGGS", 0, 1))}, "bad-quantity", "quantity of 0 of EGGS"),
        ({"lines": (OrderLine("9", "EGGS", -2, 1),)}, "bad-quantity", "quantity of -2 of EGGS"),
        ({"lines": (OrderLine("9", "EGGS", 1, 0),)}, "bad-amount", "price for EGGS"),
        ({"lines": (OrderLine("9", " ", 1, -5),)}, "bad-amount", "price for 9"),
        ({"lines": (BAGEL, OrderLine("9", "EGGS", 1, LARGEST))}, "total-too-large", "larger than we can charge"),
        ({"lines": (BAGEL, OrderLine("1", "BAGEL", LARGEST, 1))}, "bad-quantity", "of BAGEL"),
    ],
)
def test_a_dirty_order_is_rejected_in_words(changes: dict[str, Any], code: str, says: str) -> None:
    rejected = judge(order(**changes))
    assert isinstance(rejected, OrderRejected)
    assert rejected.code == code
    assert says in rejected.reason
    assert rejected.order_id == changes.get("order_id", "o1")


def test_the_limits_themselves_are_accepted() -> None:
    lines = tuple(OrderLine(str(number), "", 1, 1) for number in range(1000))
    assert isinstance(judge(order(lines=lines)), OrderAccepted)
    assert isinstance(judge(order(lines=(OrderLine("1", "", LARGEST, LARGEST),))), OrderAccepted)


def test_control_characters_of_a_name_go_no_further() -> None:
    accepted = judge(order(lines=(OrderLine("1", "BA\x00GEL\n", 1, 1),)))
    assert isinstance(accepted, OrderAccepted)
    assert accepted.demand[0].name == "BAGEL"


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [(5, "USD", "0.05 USD"), (-150, "EUR", "-1.50 EUR"), (1200, "JPY", "1200 JPY"), (1, "KWD", "0.001 KWD")],
)
def test_an_amount_has_its_currency_s_digits(minor: int, currency: str, text: str) -> None:
    assert amount(minor, currency) == text


def test_the_currencies_are_well_formed_codes() -> None:
    assert len(CURRENCIES) > 150
    assert all(len(code) == 3 and code.isascii() and code.isupper() for code in CURRENCIES)
