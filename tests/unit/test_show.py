import json
from pathlib import Path

import pytest

from streams.codec import Codec
from streams.ops.show import as_json, as_text
from streams.record import Record
from streams.registry import FolderRegistry
from topologies.orders.events import OrderRejected

REGISTRY = FolderRegistry(Path(__file__).parents[2] / "schemas")
REJECTED = OrderRejected("7", "8", "no-lines", "Your order is empty: naïve \x1b[2J\x9b2J")
VALUE = Codec([OrderRejected], REGISTRY).encoder(OrderRejected)(REJECTED)


def record(value: bytes | None, key: bytes | None = b"7") -> Record:
    return Record("orders.rejected", 3, 14, key, value, (("id", b"abc"), ("raw", b"\xff"), ("none", None)), 1483271606000)


def test_an_event_is_shown_with_its_place_headers_and_fields() -> None:
    assert json.loads(as_json(record(VALUE), REGISTRY)) == {
        "topic": "orders.rejected",
        "partition": 3,
        "offset": 14,
        "timestamp": 1483271606000,
        "key": "7",
        "headers": [["id", "abc"], ["raw", {"base64": "/w=="}], ["none", None]],
        "event": "OrderRejected",
        "value": {"order_id": "7", "customer_id": "8", "code": "no-lines", "reason": REJECTED.reason},
    }


@pytest.mark.parametrize("value", [b"", b"no event", VALUE[:-3], b"\x00\x00\x00\xff\xff"])
def test_what_is_no_event_is_shown_with_the_reason_and_its_bytes(value: bytes) -> None:
    shown = json.loads(as_json(record(value), REGISTRY))
    assert shown["undecodable"]
    assert "event" not in shown
    assert "undecodable" in as_text(record(value), REGISTRY)


def test_a_tombstone_is_no_error() -> None:
    shown = json.loads(as_json(record(None, None), REGISTRY))
    assert (shown["key"], shown["event"], shown["value"]) == (None, None, None)
    assert "null" in as_text(record(None, None), REGISTRY)


@pytest.mark.parametrize("value", [VALUE, b"\x1b]0;title\x07"])
def test_nothing_in_a_record_reaches_the_terminal_as_a_control_character(value: bytes) -> None:
    hostile = Record("t", 0, 0, b"\x1b[2J", value, (("\x1b[1m", b"\x9b1m"),), 0)
    ours = ("\x1b[2m", "\x1b[1m", "\x1b[36m", "\x1b[31m", "\x1b[0m")
    shown = as_text(hostile, REGISTRY)
    for style in ours:
        shown = shown.replace(style, "")
    assert shown.isprintable()
