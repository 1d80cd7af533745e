import gzip
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streams.errors import SetupError
from streams.ops.send import check, lines
from topologies.orders.events import OrderLine, OrderSubmitted

ORDER: dict[str, Any] = {
    "order_id": "7",
    "customer_id": "8",
    "store_id": "9",
    "placed_at": "2017-01-01T11:53:26Z",
    "currency": "USD",
    "lines": [{"sku": "1", "name": "ROLLS", "quantity": 1, "amount_minor": 50}],
}


def test_a_line_becomes_its_event() -> None:
    placed = datetime(2017, 1, 1, 11, 53, 26, tzinfo=UTC)
    expected = OrderSubmitted("7", "8", "9", placed, "USD", (OrderLine("1", "ROLLS", 1, 50),))
    assert check(json.dumps(ORDER).encode(), OrderSubmitted) == expected


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"note": "ring twice"}, "OrderSubmitted has no field `note`"),
        ({"lines": [ORDER["lines"][0], {**ORDER["lines"][0], "colour": "red"}]}, r"no field `lines\[1\].colour`"),
        (
            {"lines": [{"sku": "1", "name": "ROLLS", "quantity": "1", "amount_minor": 50}]},
            r"Expected `int`, got `str`.*quantity",
        ),
        ({"order_id": None}, "Expected `str`, got `null`"),
    ],
)
def test_a_wrong_or_unknown_field_is_named(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=said):
        check(json.dumps(ORDER | changed).encode(), OrderSubmitted)


@pytest.mark.parametrize("data", [b"one\ntwo\n", gzip.compress(b"one\ntwo\n")], ids=["plain", "packed"])
def test_lines_come_from_a_file_or_stdin_packed_or_not(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "events"
    file.write_bytes(data)
    assert list(lines(str(file), io.BytesIO())) == list(lines("-", io.BytesIO(data))) == [b"one\n", b"two\n"]


@pytest.mark.parametrize("damage", [slice(0, -12), slice(0, 15)])
def test_a_packed_file_that_ends_too_early_is_an_error_after_its_lines(tmp_path: Path, damage: slice) -> None:
    file = tmp_path / "events.gz"
    file.write_bytes(gzip.compress(b"one\ntwo\n" * 10)[damage])
    with pytest.raises(SetupError, match="cannot be read"):
        list(lines(str(file), io.BytesIO()))


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="No such file"):
        list(lines(str(tmp_path / "none"), io.BytesIO()))
