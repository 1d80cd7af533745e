"""Inventory: what becomes of stock and money, whoever is first: payment, cancellation or deadline."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from streams import migrate
from streams.errors import Reject
from streams.record import Record
from streams.stage import Context, Later
from streams.store import Inbox
from tests.unit.test_orders_intake import PLACED
from tests.unit.test_orders_stages import WHY, closed, failed
from topologies.orders.events import (
    Closing,
    Demand,
    OrderAccepted,
    OrderCancelled,
    OrderClosed,
    PaymentCaptured,
    PaymentDue,
    RefundRequested,
    Shortage,
    StockRejected,
    StockReleased,
    StockReserved,
)
from topologies.orders.inventory import cancel, deadline, expire, release, reserve, ship
from topologies.orders.stock import Stock, levels, stock

RECORD = Record("any.topic", 0, 0, b"o1", b"")


def inventory(shelf: Stock) -> Context:
    return Context(RECORD, "e1", "inventory", 1, 1500000000.0, {stock: shelf, deadline: 900.0})


def accepted(order_id: str, *demand: tuple[str, int]) -> OrderAccepted:
    lines = tuple(Demand(sku, f"NAME {sku}", quantity) for sku, quantity in demand)
    return OrderAccepted(order_id, "c1", "s1", PLACED, "USD", 500, lines)


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Stock]:
    """Ten of a, five of b, one of c."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    migrate.upgrade(url, [stock])
    inbox = Inbox(url, "orders.inventory", stock)
    inbox.open()
    with inbox.batch([], 0.0) as journal:
        journal.repository.restock({"a": 10, "b": 5, "c": 1})
        yield journal.repository
    inbox.close()


def free(shelf: Stock, *skus: str) -> list[int]:
    """How many of each can be had, asked as a customer would: by wanting too many."""
    short = shelf.reserve("probe", [Demand(sku, "", 10**9) for sku in skus])
    return [shortage.available for shortage in short]


def on_hand(shelf: Stock) -> dict[str, int]:
    shelf.flush()
    return {sku: count for sku, count, _ in shelf._connection.execute(select(levels))}


def test_an_order_takes_all_of_its_lines_and_has_so_long_to_be_paid_for(shelf: Stock) -> None:
    order = accepted("o1", ("a", 4), ("b", 5))
    reserved = StockReserved("o1", "c1", "USD", 500, order.demand)
    assert reserve(order, inventory(shelf)) == (reserved, Later(PaymentDue("o1"), 900.0))
    assert free(shelf, "a", "b", "c") == [6, 0, 1]


def test_an_order_that_comes_up_short_takes_nothing(shelf: Stock) -> None:
    rejected = reserve(accepted("o1", ("a", 4), ("c", 2), ("unknown", 1)), inventory(shelf))
    assert isinstance(rejected, StockRejected)
    assert rejected.code == "out-of-stock"
    assert rejected.reason == "We do not have enough of NAME c and NAME unknown."
    assert rejected.shortages == (Shortage("c", "NAME c", 2, 1), Shortage("unknown", "NAME unknown", 1, 0))
    assert free(shelf, "a", "b", "c") == [10, 5, 1]


def test_many_shortages_are_told_in_few_words(shelf: Stock) -> None:
    rejected = reserve(accepted("o1", *((str(number), 1) for number in range(5))), inventory(shelf))
    assert isinstance(rejected, StockRejected)
    assert rejected.reason == "We do not have enough of NAME 0, NAME 1, NAME 2 and 2 more."
    assert len(rejected.shortages) == 5


def test_an_order_sent_twice_is_taken_and_paid_for_once(shelf: Stock) -> None:
    ctx = inventory(shelf)
    assert isinstance(reserve(accepted("o1", ("a", 4)), ctx), tuple)
    assert reserve(accepted("o1", ("a", 4)), ctx) is None
    assert free(shelf, "a") == [6]


BOTH = (Demand("a", "NAME a", 4), Demand("b", "NAME b", 5))
CANCELLED = OrderCancelled("o1", WHY[1], "customer")
PAID = PaymentCaptured("o1", "c1", "USD", 500, "pay_1")


def taken(shelf: Stock) -> Context:
    """o1 holds four of a and all of b, o2 one of a."""
    ctx = inventory(shelf)
    reserve(accepted("o1", ("b", 5), ("a", 4)), ctx)
    reserve(accepted("o2", ("a", 1)), ctx)
    return ctx


def test_an_unpaid_order_goes_back_on_sale_once(shelf: Stock) -> None:
    ctx = taken(shelf)
    why = ("card-declined", "Your bank declined the payment.")
    ended = (StockReleased("o1", "c1", "USD", 500, *why, BOTH), closed(Closing.DECLINED, *why))
    assert release(failed("o1"), ctx) == ended
    assert (release(failed("o1"), ctx), expire(PaymentDue("o1"), ctx), cancel(CANCELLED, ctx)) == ((), (), ())
    assert free(shelf, "a", "b") == [9, 5]


def test_an_order_that_is_not_paid_in_time_goes_back_on_sale_and_late_money_goes_back_too(shelf: Stock) -> None:
    ctx = taken(shelf)
    why = ("expired", "The payment did not come in time.")
    ended = (StockReleased("o1", "c1", "USD", 500, *why, BOTH), closed(Closing.EXPIRED, *why))
    assert expire(PaymentDue("o1"), ctx) == ended
    assert free(shelf, "a", "b") == [9, 5]
    assert ship(PAID, ctx) == RefundRequested("o1", "c1", "USD", 500, "pay_1", *why)
    assert ship(PAID, ctx) is None
    assert free(shelf, "a", "b") == [9, 5]


def test_a_paid_order_does_not_expire(shelf: Stock) -> None:
    ctx = taken(shelf)
    ship(PAID, ctx)
    assert expire(PaymentDue("o1"), ctx) == ()


def test_an_order_that_is_cancelled_before_it_comes_takes_nothing(shelf: Stock) -> None:
    ctx = inventory(shelf)
    assert cancel(CANCELLED, ctx) == ()
    assert reserve(accepted("o1", ("b", 5), ("a", 4)), ctx) == closed(Closing.CANCELLED, *WHY)
    assert free(shelf, "a", "b") == [10, 5]


def test_a_cancelled_reservation_goes_back_on_sale_and_what_is_paid_meanwhile_goes_back(shelf: Stock) -> None:
    ctx = taken(shelf)
    assert cancel(CANCELLED, ctx) == (StockReleased("o1", "c1", "USD", 500, *WHY, BOTH), closed(Closing.CANCELLED, *WHY))
    assert cancel(CANCELLED, ctx) == ()
    refund = ship(PAID, ctx)
    assert isinstance(refund, RefundRequested)
    assert (refund.payment_id, refund.total_minor, refund.code) == ("pay_1", 500, "cancelled")


def test_a_paid_order_that_is_cancelled_comes_back_to_the_shelf_and_its_money_goes_back(shelf: Stock) -> None:
    ctx = taken(shelf)
    ship(PAID, ctx)
    assert cancel(CANCELLED, ctx) == (
        StockReleased("o1", "c1", "USD", 500, *WHY, BOTH),
        closed(Closing.CANCELLED, *WHY),
        RefundRequested("o1", "c1", "USD", 500, "pay_1", *WHY),
    )
    assert on_hand(shelf) == {"a": 10, "b": 5, "c": 1}
    assert free(shelf, "a", "b") == [9, 5]
    assert (cancel(CANCELLED, ctx), ship(PAID, ctx)) == ((), None)


def test_a_cancellation_says_why_in_words_that_can_be_printed(shelf: Stock) -> None:
    ctx = taken(shelf)
    (_, first) = cancel(OrderCancelled("o1", "no\x00 more\n" + "!" * 9999, "shop"), ctx)
    (_, second) = cancel(OrderCancelled("o2", " ", "shop"), ctx)
    assert isinstance(first, OrderClosed)
    assert isinstance(second, OrderClosed)
    assert first.reason == "no more" + "!" * 493
    assert second.reason == "The order was cancelled."


@pytest.mark.parametrize("order_id", ["", "a\x00b", "x" * 256])
def test_a_cancellation_of_nothing_that_can_be_named_is_a_case(shelf: Stock, order_id: str) -> None:
    event = OrderCancelled(order_id, "", "shop")
    shelf.expect([event])
    with pytest.raises(Reject, match="without a readable order number"):
        cancel(event, inventory(shelf))


def test_a_paid_order_leaves_the_shelf_once(shelf: Stock) -> None:
    ctx = taken(shelf)
    assert on_hand(shelf) == {"a": 10, "b": 5, "c": 1}
    assert ship(PAID, ctx) == OrderClosed("o1", "c1", "USD", 500, Closing.CONFIRMED, "pay_1")
    assert ship(PAID, ctx) is None
    assert on_hand(shelf) == {"a": 6, "b": 0, "c": 1}
    assert free(shelf, "a", "b", "c") == [5, 0, 1], "o2 still holds one"
    assert reserve(accepted("o1", ("a", 4)), ctx) is None, "an order that comes again after it was shipped"


def test_money_for_an_order_that_holds_nothing_is_a_case(shelf: Stock) -> None:
    with pytest.raises(Reject, match=r"order o1 is new: that it is captured now cannot be"):
        ship(PAID, inventory(shelf))


@pytest.mark.parametrize("before", [(), (CANCELLED,)])
def test_a_second_payment_is_a_case(shelf: Stock, before: tuple[OrderCancelled, ...]) -> None:
    ctx = taken(shelf)
    for event in before:
        cancel(event, ctx)
    ship(PAID, ctx)
    with pytest.raises(Reject, match="paid for with pay_2, and was with pay_1 before"):
        ship(PaymentCaptured("o1", "c1", "USD", 500, "pay_2"), ctx)


def test_what_an_older_version_reserved_is_shipped_or_released_by_this_one(shelf: Stock) -> None:
    ctx = inventory(shelf)
    for order_id in ("o1", "o2", "o3"):
        shelf.reserve(order_id, (Demand("a", "NAME a", 1),))  # all that it wrote
    assert isinstance(ship(PAID, ctx), OrderClosed)
    assert len(release(failed("o2"), ctx)) == 2
    with pytest.raises(Reject, match="older version"):
        cancel(OrderCancelled("o3", "", "shop"), ctx)
    assert (on_hand(shelf)["a"], free(shelf, "a")) == (9, [8])


def test_a_thousand_skus_are_one_order(shelf: Stock) -> None:
    skus = [f"s{number}" for number in range(1000)]
    shelf.restock(dict.fromkeys(skus, 3))
    ctx = inventory(shelf)
    assert isinstance(reserve(accepted("o1", *((sku, 3) for sku in skus)), ctx), tuple)
    assert free(shelf, *skus) == [0] * 1000
    released = release(failed("o1"), ctx)[0]
    assert isinstance(released, StockReleased)
    assert len(released.demand) == 1000
    assert free(shelf, *skus) == [3] * 1000


def test_restocking_leaves_what_orders_hold(shelf: Stock) -> None:
    reserve(accepted("o1", ("a", 4)), inventory(shelf))
    shelf.restock({"a": 7, "d": 2})
    assert free(shelf, "a", "d") == [7, 2]
