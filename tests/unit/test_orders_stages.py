"""Inventory, payment and notification, tested as a developer tests a handler: without a broker."""

import asyncio
import json
import multiprocessing
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from streams import migrate
from streams.config import Settings
from streams.errors import Reject, SetupError, Unavailable
from streams.record import Record
from streams.stage import Context, Port
from streams.store import Inbox
from tests.unit.test_orders_intake import PLACED
from topologies.orders import orders
from topologies.orders.events import (
    Demand,
    Ending,
    NotificationSent,
    OrderAccepted,
    OrderRejected,
    PaymentCaptured,
    PaymentFailed,
    Shortage,
    StockRejected,
    StockReleased,
    StockReserved,
)
from topologies.orders.inventory import release, reserve, ship
from topologies.orders.notification import notify
from topologies.orders.payment import capture
from topologies.orders.ports import FileMailer, Letter, OwnProvider, mail, psp
from topologies.orders.stock import Stock, levels, stock
from topologies.orders.subscribers import subscribers

RECORD = Record("any.topic", 0, 0, b"o1", b"")


def context(stage: str, resource: Any = None, value: Any = None, event_id: str = "e1") -> Context:
    return Context(RECORD, event_id, stage, 1, 1500000000.0, {resource: value})


def accepted(order_id: str, *demand: tuple[str, int]) -> OrderAccepted:
    lines = tuple(Demand(sku, f"NAME {sku}", quantity) for sku, quantity in demand)
    return OrderAccepted(order_id, "c1", "s1", PLACED, "USD", 500, lines)


def failed(order_id: str) -> PaymentFailed:
    return PaymentFailed(order_id, "c1", "USD", 500, "card-declined", "Your bank declined the payment.")


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


def test_an_order_takes_all_of_its_lines(shelf: Stock) -> None:
    order = accepted("o1", ("a", 4), ("b", 5))
    assert reserve(order, context("inventory", stock, shelf)) == StockReserved("o1", "c1", "USD", 500, order.demand)
    assert free(shelf, "a", "b", "c") == [6, 0, 1]


def test_an_order_that_comes_up_short_takes_nothing(shelf: Stock) -> None:
    rejected = reserve(accepted("o1", ("a", 4), ("c", 2), ("unknown", 1)), context("inventory", stock, shelf))
    assert isinstance(rejected, StockRejected)
    assert rejected.code == "out-of-stock"
    assert rejected.reason == "We do not have enough of NAME c and NAME unknown."
    assert rejected.shortages == (Shortage("c", "NAME c", 2, 1), Shortage("unknown", "NAME unknown", 1, 0))
    assert free(shelf, "a", "b", "c") == [10, 5, 1]


def test_many_shortages_are_told_in_few_words(shelf: Stock) -> None:
    rejected = reserve(accepted("o1", *((str(number), 1) for number in range(5))), context("inventory", stock, shelf))
    assert isinstance(rejected, StockRejected)
    assert rejected.reason == "We do not have enough of NAME 0, NAME 1, NAME 2 and 2 more."
    assert len(rejected.shortages) == 5


def test_an_order_sent_twice_is_taken_and_paid_for_once(shelf: Stock) -> None:
    ctx = context("inventory", stock, shelf)
    assert isinstance(reserve(accepted("o1", ("a", 4)), ctx), StockReserved)
    assert reserve(accepted("o1", ("a", 4)), ctx) is None
    assert free(shelf, "a") == [6]


def test_an_unpaid_order_goes_back_on_sale_once(shelf: Stock) -> None:
    ctx = context("inventory", stock, shelf)
    reserve(accepted("o1", ("b", 5), ("a", 4)), ctx)
    reserve(accepted("o2", ("a", 1)), ctx)
    released = release(failed("o1"), ctx)
    assert released == StockReleased(
        "o1",
        "c1",
        "USD",
        500,
        "card-declined",
        "Your bank declined the payment.",
        (Demand("a", "NAME a", 4), Demand("b", "NAME b", 5)),
    )
    assert release(failed("o1"), ctx).demand == ()
    assert free(shelf, "a", "b") == [9, 5]


PAID = PaymentCaptured("o1", "c1", "USD", 500, "pay_1")


def test_a_paid_order_leaves_the_shelf_once(shelf: Stock) -> None:
    ctx = context("inventory", stock, shelf)
    reserve(accepted("o1", ("a", 4), ("b", 5)), ctx)
    reserve(accepted("o2", ("a", 1)), ctx)
    assert on_hand(shelf) == {"a": 10, "b": 5, "c": 1}
    for _ in range(2):
        ship(PAID, ctx)
    assert on_hand(shelf) == {"a": 6, "b": 0, "c": 1}
    assert free(shelf, "a", "b", "c") == [5, 0, 1], "o2 still holds one"
    assert reserve(accepted("o1", ("a", 4)), ctx) is None, "an order that comes again after it was shipped"
    assert release(failed("o1"), ctx).demand == (), "what is gone cannot be put back"


def test_money_for_an_order_that_holds_nothing_is_a_case(shelf: Stock) -> None:
    with pytest.raises(Reject, match=r"order o1 is paid for with pay_1, but nothing is set aside"):
        ship(PAID, context("inventory", stock, shelf))


def test_a_thousand_skus_are_one_order(shelf: Stock) -> None:
    skus = [f"s{number}" for number in range(1000)]
    shelf.restock(dict.fromkeys(skus, 3))
    ctx = context("inventory", stock, shelf)
    assert isinstance(reserve(accepted("o1", *((sku, 3) for sku in skus)), ctx), StockReserved)
    assert free(shelf, *skus) == [0] * 1000
    assert len(release(failed("o1"), ctx).demand) == 1000
    assert free(shelf, *skus) == [3] * 1000


def test_restocking_leaves_what_orders_hold(shelf: Stock) -> None:
    reserve(accepted("o1", ("a", 4)), context("inventory", stock, shelf))
    shelf.restock({"a": 7, "d": 2})
    assert free(shelf, "a", "d") == [7, 2]


RESERVED = StockReserved("o1", "c1", "USD", 500, (Demand("a", "NAME a", 4),))


def pay(provider: OwnProvider, order: StockReserved = RESERVED, event_id: str = "e1") -> PaymentCaptured | PaymentFailed:
    return asyncio.run(capture(order, context("payment", psp, provider, event_id)))


def test_a_payment_tried_again_is_the_same_payment() -> None:
    first = pay(OwnProvider(0.0))
    assert isinstance(first, PaymentCaptured)
    assert pay(OwnProvider(0.0)) == first
    other = pay(OwnProvider(0.0), event_id="e2")
    assert isinstance(other, PaymentCaptured)
    assert other.payment_id != first.payment_id


def test_a_declined_payment_says_why() -> None:
    assert pay(OwnProvider(1.0)) == failed("o1")


def test_the_provider_declines_about_the_share_it_is_told() -> None:
    provider = OwnProvider(0.1)
    assert 850 < sum(provider.declines(str(number)) for number in range(10_000)) < 1150


SHORT = (Shortage("a", "NAME a", 2, 1),)


class Nobody:
    """Subscribers: none."""

    def of(self, _: str) -> tuple[list[str], list[str]]:
        return [], []


@pytest.mark.parametrize(
    ("end", "ending", "code", "says"),
    [
        (PaymentCaptured("o1", "c1", "USD", 12345, "pay_1"), Ending.CONFIRMED, None, ["123.45 USD", "order o1", "pay_1"]),
        (OrderRejected("o1", "c1", "no-lines", "It is empty."), Ending.REJECTED, "no-lines", ["order o1", "It is empty."]),
        (OrderRejected("", "", "order-id-missing", "No number."), Ending.REJECTED, "order-id-missing", ["No number."]),
        (StockRejected("o1", "c1", "USD", 5, "out-of-stock", "No a.", SHORT), Ending.REJECTED, "out-of-stock", ["No a."]),
        (failed("o1"), Ending.UNPAID, "card-declined", ["5.00 USD", "order o1", "Your bank declined the payment."]),
    ],
)
def test_every_end_is_told(tmp_path: Path, end: Any, ending: Ending, code: str | None, says: list[str]) -> None:
    mailer = FileMailer(tmp_path / "deep" / "letters.jsonl")
    (sent,) = notify(end, Context(RECORD, "e1", "notification", 1, 1500000000.0, {mail: mailer, subscribers: Nobody()}))
    mailer.close()
    assert isinstance(sent, NotificationSent)
    assert (sent.ending, sent.code, sent.order_id, sent.customer_id) == (ending, code, end.order_id, end.customer_id)
    assert all(part in sent.message for part in says)
    assert json.loads((tmp_path / "deep" / "letters.jsonl").read_text()) == {
        "event_id": "e1",
        "written_at": "2017-07-14T02:40:00Z",
        "order_id": end.order_id,
        "customer_id": end.customer_id,
        "subject": sent.subject,
        "message": sent.message,
    }


def _write(path: Path, writer: int) -> None:
    mailer = FileMailer(path)
    for number in range(200):
        mailer.send(Letter(f"{writer}-{number}", PLACED, "o", "c", "s", "m" * 3000))
    mailer.close()


def test_processes_may_share_a_file_of_letters(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_write, args=(tmp_path / "letters.jsonl", writer)) for writer in range(3)]
    for process in writers:
        process.start()
    for process in writers:
        process.join(60)
    letters = [json.loads(line)["event_id"] for line in (tmp_path / "letters.jsonl").read_text().splitlines()]
    assert sorted(letters) == sorted(f"{writer}-{number}" for writer in range(3) for number in range(200))


def test_mail_that_cannot_be_sent_is_unavailable(tmp_path: Path) -> None:
    mailer = FileMailer(tmp_path / "letters.jsonl")
    os.close(mailer._file)
    with pytest.raises(Unavailable, match="mail"):
        mailer.send(Letter("e", PLACED, "o", "c", "s", "m"))


@pytest.mark.parametrize(
    ("port", "environment", "where"),
    [
        (psp, {"TOWPATH_DECLINE_SHARE": "2%"}, "TOWPATH_DECLINE_SHARE"),
        (psp, {"TOWPATH_DECLINE_SHARE": "nan"}, "TOWPATH_DECLINE_SHARE"),
        (mail, {"TOWPATH_NOTIFICATIONS": "/proc/nowhere/letters"}, "TOWPATH_NOTIFICATIONS"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(port: Port[Any], environment: dict[str, str], where: str) -> None:
    opened = port.connect(Settings.load(environment))
    assert isinstance(opened, AbstractContextManager)
    with pytest.raises(SetupError) as caught, opened:
        pass
    assert caught.value.where == where


def test_the_ports_take_their_settings(tmp_path: Path) -> None:
    settings = Settings.load({"TOWPATH_DIR": str(tmp_path), "TOWPATH_DECLINE_SHARE": "1"})
    with psp.connect(settings) as provider, mail.connect(settings) as mailer:  # type: ignore[union-attr]  # ours are synchronous
        assert isinstance(pay(provider), PaymentFailed)  # type: ignore[arg-type]  # any provider will do
        mailer.send(Letter("e", PLACED, "o", "c", "s", "m"))
    assert (tmp_path / "notifications.jsonl").exists()


def test_the_graph_is_the_designed_flow() -> None:
    flows = {stage.name: (topics(stage.consumes), topics(stage.emits)) for stage in orders.stages}
    assert flows == {
        "intake": ({"orders.submitted"}, {"orders.accepted", "orders.rejected"}),
        "inventory": (
            {"orders.accepted", "payments.captured", "payments.failed"},
            {"inventory.reserved", "inventory.rejected", "inventory.released"},
        ),
        "payment": ({"inventory.reserved"}, {"payments.captured", "payments.failed"}),
        "settlement": ({"payments.captured", "payments.settled", "payments.disputed"}, {"orders.disputed"}),
        "notification": (
            {"orders.rejected", "inventory.rejected", "payments.failed", "payments.captured", "orders.disputed"},
            {"notifications.sent", "notifications.requested"},
        ),
        "delivery": ({"notifications.requested"}, {"notifications.sent"}),
    }
    assert orders.schemas.is_dir()


def topics(events: tuple[type, ...]) -> set[str]:
    return {topic for topic, event in orders.by_topic.items() if event in events}
