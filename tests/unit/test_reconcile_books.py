"""The books of the order flow by example: a row, a line of the statement, each wrong in one way, and named for it."""

import csv
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from streams.errors import SetupError
from streams.testing import Simulation
from tests.property.test_orders_flow import IDS, Shop
from tests.support.reconciling import copied, judged
from topologies.orders.events import PaymentCaptured, PaymentRefunded

Lines = list[dict[str, str]]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Five orders: confirmed, declined, late, cancelled after it was paid for, and one more that is confirmed."""
    shop = Shop(str(tmp_path_factory.mktemp("books")), ["good", "declines", "slow", "good", "good"])
    for order_id in IDS:
        shop.act("submit", order_id)
    shop.rest(1)
    shop.act("cancel", "o3")
    for _ in range(6):
        shop.rest(30)
    yield shop
    shop.flow.close()
    shop.inbox.close()


def statement(flow: Simulation, path: Path, change: Callable[[Lines], object] = len) -> Path:
    """What the provider says of the payments, changed in some way."""
    lines: Lines = []
    for topic, kind in (("payments.captured", "capture"), ("payments.refunded", "refund")):
        for record in flow.broker.read(topic):
            told: Any = flow._codec.decoder(PaymentCaptured if kind == "capture" else PaymentRefunded)(record.value)
            lines.append(
                {
                    "number": str(len(lines) + 1),
                    "at": datetime.fromtimestamp(record.timestamp / 1000, UTC).isoformat(),
                    "kind": kind,
                    "payment_id": told.payment_id,
                    "order_id": told.order_id,
                    "idempotency_key": "k",
                    "amount_minor": str(told.total_minor),
                    "currency": told.currency,
                }
            )
    change(lines)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    return path


def found(shop: Shop, **sources: list[object]) -> list[tuple[str, str]]:
    result = judged(shop.flow, copied(shop.flow), **sources)  # type: ignore[arg-type]  # databases or statements
    return [(difference.kind, difference.ids[-1]) for difference in result.differences]


def test_books_that_agree_have_no_difference(shop: Shop, tmp_path: Path) -> None:
    assert len(shop.flow.outputs(PaymentCaptured)) >= 3
    path = statement(shop.flow, tmp_path / "day.csv")
    assert found(shop, databases=[shop.url], statements=[path]) == []


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda lines: lines.pop(0), "capture-missing"),
        (lambda lines: lines.append(lines[0] | {"number": "99"}), "capture-doubled"),
        (lambda lines: lines[0].update(amount_minor="1"), "capture-amount"),
        (lambda lines: lines[0].update(currency="EUR"), "capture-currency"),
        (lambda lines: lines[0].update(at="2023-11-14T10:00:00Z"), "capture-timing"),
        (lambda lines: lines[-1].update(amount_minor="1"), "refund-amount"),
        (lambda lines: lines.pop(), "refund-missing"),
    ],
)
def test_a_line_that_is_wrong_is_named(shop: Shop, tmp_path: Path, change: Callable[[Lines], object], kind: str) -> None:
    wrong = []

    def spoil(lines: Lines) -> None:
        wrong.append(lines[-1 if "refund" in kind else 0]["order_id"])
        change(lines)

    path = statement(shop.flow, tmp_path / "day.csv", spoil)
    assert found(shop, statements=[path]) == [(kind, wrong[0])]


def test_a_line_of_a_payment_that_nobody_has_published_is_named(shop: Shop, tmp_path: Path) -> None:
    path = statement(
        shop.flow, tmp_path / "day.csv", lambda lines: lines.append(lines[0] | {"payment_id": "p", "order_id": "o9"})
    )
    assert found(shop, statements=[path]) == [("capture-extra", "o9")]


def test_a_payment_that_failed_for_us_and_not_for_the_provider_is_named(shop: Shop, tmp_path: Path) -> None:
    path = statement(
        shop.flow, tmp_path / "day.csv", lambda lines: lines.append(lines[0] | {"payment_id": "p", "order_id": "o1"})
    )
    assert found(shop, statements=[path]) == [("capture-status", "o1")]


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        ("orders SET state = 'reserved' WHERE order_id = 'o0'", ["stock-state"]),
        ("orders SET total_minor = total_minor + 1 WHERE order_id = 'o0'", ["stock-amount"]),
        ("orders SET order_id = 'o7' WHERE order_id = 'o1'", ["stock-extra", "stock-missing"]),
        ("reservations SET quantity = 9 WHERE order_id = 'o0' AND sku = 'a'", ["stock-lines"]),
        ("stock SET reserved = 1 WHERE sku = 'a'", ["stock-level"]),
        ("payments SET captured_minor = captured_minor + 1 WHERE order_id = 'o0'", ["account-amount"]),
        ("payments SET order_id = 'o7' WHERE order_id = 'o0'", ["account-extra", "account-missing"]),
        ("payments SET refunded_minor = 1 WHERE order_id = 'o3'", ["account-refund"]),
    ],
)
def test_a_row_that_is_wrong_is_named(shop: Shop, tmp_path: Path, change: str, kinds: list[str]) -> None:
    path = tmp_path / "copy.db"
    with closing(sqlite3.connect(shop.url.removeprefix("sqlite:///"))) as source, closing(sqlite3.connect(path)) as copy:
        source.backup(copy)
        copy.execute(f"UPDATE {change}")
        copy.commit()
    assert sorted(kind for kind, _ in found(shop, databases=[f"sqlite:///{path}"])) == kinds


def test_a_file_that_is_no_statement_is_an_error_with_its_line(shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "no.csv"
    path.write_text("number,at,kind\n1,yesterday,capture\n")
    with pytest.raises(SetupError, match="no line of a statement") as error:
        found(shop, statements=[path])
    assert error.value.where == f"{path}:2"
