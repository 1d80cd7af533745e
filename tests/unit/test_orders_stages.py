"""Inventory, payment and notification, tested as a developer tests a handler: without a broker."""

import asyncio
import json
import multiprocessing
import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from streams.config import Settings
from streams.errors import SetupError, Unavailable
from streams.record import Record
from streams.stage import Context, Port
from tests.unit.test_orders_intake import PLACED
from topologies.orders import orders
from topologies.orders.events import (
    Closing,
    Demand,
    Ending,
    NotificationSent,
    OrderClosed,
    OrderRejected,
    PaymentCaptured,
    PaymentFailed,
    PaymentRefunded,
    RefundRequested,
    Shortage,
    StockRejected,
    StockReserved,
)
from topologies.orders.inventory import deadline
from topologies.orders.notification import notify
from topologies.orders.payment import capture, refund
from topologies.orders.ports import FileMailer, Letter, OwnProvider, Refund, mail, psp
from topologies.orders.subscribers import subscribers

RECORD = Record("any.topic", 0, 0, b"o1", b"")


def context(stage: str, resource: Any = None, value: Any = None, event_id: str = "e1") -> Context:
    return Context(RECORD, event_id, stage, 1, 1500000000.0, {resource: value})


def failed(order_id: str) -> PaymentFailed:
    return PaymentFailed(order_id, "c1", "USD", 500, "card-declined", "Your bank declined the payment.")


WHY = ("cancelled", "I have found it elsewhere.")


def closed(closing: Closing, code: str, reason: str) -> OrderClosed:
    return OrderClosed("o1", "c1", "USD", 500, closing, None, code, reason)


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


class Returns:
    """A provider that keeps what it is asked to give back."""

    def __init__(self) -> None:
        self.asked: list[Refund] = []

    async def refund(self, refund: Refund) -> None:
        self.asked.append(refund)


def test_a_payment_goes_back_under_a_key_of_its_own_whoever_asks() -> None:
    provider = Returns()
    for event_id in ("e1", "e2"):
        wanted = RefundRequested("o1", "c1", "USD", 500, "pay_1", *WHY)
        told = asyncio.run(refund(wanted, context("payment", psp, provider, event_id)))
        assert told == PaymentRefunded("o1", "c1", "USD", 500, "pay_1", *WHY)
    assert provider.asked == [Refund("refund-pay_1", "o1", "pay_1", 500)] * 2


def test_the_provider_declines_about_the_share_it_is_told() -> None:
    provider = OwnProvider(0.1)
    assert 850 < sum(provider.declines(str(number)) for number in range(10_000)) < 1150


PAID_FOR = OrderClosed("o1", "c1", "USD", 12345, Closing.CONFIRMED, "pay_1")
SHORT = (Shortage("a", "NAME a", 2, 1),)


class Nobody:
    """Subscribers: none."""

    def of(self, _: str) -> tuple[list[str], list[str]]:
        return [], []


@pytest.mark.parametrize(
    ("end", "ending", "code", "says"),
    [
        (
            OrderClosed("o1", "c1", "USD", 12345, Closing.CONFIRMED, "pay_1"),
            Ending.CONFIRMED,
            None,
            ["123.45 USD", "order o1", "pay_1"],
        ),
        (OrderRejected("o1", "c1", "no-lines", "It is empty."), Ending.REJECTED, "no-lines", ["order o1", "It is empty."]),
        (OrderRejected("", "", "order-id-missing", "No number."), Ending.REJECTED, "order-id-missing", ["No number."]),
        (StockRejected("o1", "c1", "USD", 5, "out-of-stock", "No a.", SHORT), Ending.REJECTED, "out-of-stock", ["No a."]),
        (closed(Closing.DECLINED, "no-card", "No card."), Ending.UNPAID, "no-card", ["5.00 USD", "order o1", "No card."]),
        (closed(Closing.EXPIRED, "expired", "Late."), Ending.UNPAID, "expired", ["5.00 USD", "order o1", "in time"]),
        (closed(Closing.CANCELLED, *WHY), Ending.UNPAID, "cancelled", ["5.00 USD", "order o1", WHY[1]]),
    ],
)
def test_every_end_is_told(tmp_path: Path, end: Any, ending: Ending, code: str | None, says: list[str]) -> None:
    mailer = FileMailer(tmp_path / "deep" / "letters.jsonl")
    (sent,) = notify(end, Context(RECORD, "e1", "notification", 1, 1500000000.0, {mail: mailer, subscribers: Nobody()}))
    mailer.close()
    assert isinstance(sent, NotificationSent)
    assert (sent.ending, sent.code, sent.order_id, sent.customer_id) == (ending, code, end.order_id, end.customer_id)
    assert sent.closing is getattr(end, "closing", None)
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
        (deadline, {"TOWPATH_PAYMENT_DEADLINE": "15min"}, "TOWPATH_PAYMENT_DEADLINE"),
        (deadline, {"TOWPATH_PAYMENT_DEADLINE": "0"}, "TOWPATH_PAYMENT_DEADLINE"),
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
            {"orders.accepted", "orders.cancelled", "payments.captured", "payments.failed"},
            {
                *("inventory.reserved", "inventory.rejected", "inventory.released"),
                *("orders.closed", "payments.refund-requested"),
            },
        ),
        "payment": (
            {"inventory.reserved", "payments.refund-requested"},
            {"payments.captured", "payments.failed", "payments.refunded"},
        ),
        "settlement": (
            {"payments.captured", "payments.refunded", "payments.settled", "payments.disputed"},
            {"orders.disputed"},
        ),
        "notification": (
            {"orders.rejected", "inventory.rejected", "orders.closed", "payments.refunded", "orders.disputed"},
            {"notifications.sent", "notifications.requested"},
        ),
        "delivery": ({"notifications.requested"}, {"notifications.sent"}),
    }
    assert orders.schemas.is_dir()


def topics(events: tuple[type, ...]) -> set[str]:
    return {topic for topic, event in orders.by_topic.items() if event in events}
