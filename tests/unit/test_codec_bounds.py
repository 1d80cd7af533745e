"""Whatever 1 MiB of bytes says, it costs no gigabyte and no seconds."""

import contextlib
import copy
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streams.codec import Codec
from streams.errors import DecodeError
from streams.record import event
from streams.registry import FolderRegistry
from streams.varint import read_length
from tests.property.contracts import order_codec, released
from topologies.orders.events import OrderSubmitted

MIB = 1 << 20
MAX_BYTES = 300 * MIB
MAX_SECONDS = 3.0  # of this thread's own time


class Tick(msgspec.Struct, frozen=True):
    """The smallest item: one byte."""

    on: bool


@event("ticks", key="name")
class Ticks(msgspec.Struct, frozen=True):
    name: str
    ticks: tuple[Tick, ...]
    grid: tuple[tuple[bool, ...], ...] = ()


TICK: dict[str, Any] = {"type": "record", "name": "Tick", "fields": [{"name": "on", "type": "boolean"}]}
TICKS: dict[str, Any] = {
    "type": "record",
    "name": "Ticks",
    "topic": "ticks",
    "fields": [
        {"name": "name", "type": "string"},
        {"name": "ticks", "type": {"type": "array", "items": TICK}},
        {"name": "grid", "type": {"type": "array", "items": {"type": "array", "items": "boolean"}}, "default": []},
    ],
}


def varint(n: int) -> bytes:
    n, out = n << 1, bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes([*out, n])


def check_cost(decode: Callable[[bytes], object], body: Callable[[int], bytes]) -> None:
    """A body's cost in time is measured at 1 MiB, in memory at an eighth of it: tracing is slow, and both costs are linear."""
    value = HEAD + body(MIB)
    started = time.thread_time()
    outcome(decode, value)
    assert time.thread_time() - started < MAX_SECONDS
    value = HEAD + body(MIB // 8)
    tracemalloc.start()
    try:
        outcome(decode, value)
        assert tracemalloc.get_traced_memory()[1] < MAX_BYTES // 8
    finally:
        tracemalloc.stop()


def outcome(decode: Callable[[bytes], object], value: bytes) -> None:
    with contextlib.suppress(DecodeError):
        decode(value)


HEAD = b"\x00\x00\x00\x00\x01"
BODIES: dict[str, Callable[[int], bytes]] = {
    "smallest items": lambda n: b"\x00" + varint(n) + b"\x00" * n + b"\x00\x00",
    "smallest items, then a fault at the end": lambda n: b"\x00" + varint(n) + b"\x00" * n + b"\x00",
    "blocks of one item": lambda n: b"\x00" + b"\x02\x01" * (n // 2) + b"\x00\x00",
    "blocks of one item that say their size": lambda n: b"\x00" + b"\x01\x00\x01" * (n // 3),
    "lists of nothing": lambda n: b"\x00\x00" + varint(n) + b"\x00" * n + b"\x00",
    "endless number": lambda n: b"\x00" + b"\x80" * n,
    "endless text": lambda n: varint(2**62 - 1) + b"\x00" * n,
    "endless blocks": lambda n: b"\x00" + b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01" * (n // 10),
    "high bytes": lambda n: b"\xff" * n,
    "zero bytes": lambda n: b"\x00" * n,
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_a_mebibyte_is_bounded(tmp_path: Path, body: Callable[[int], bytes]) -> None:
    check_cost(Codec([Ticks], released(tmp_path, TICKS)).decoder(Ticks), body)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_a_mebibyte_of_an_older_version_is_bounded_too(tmp_path: Path, body: Callable[[int], bytes]) -> None:
    # each one-byte item of the old version becomes one of forty fields: a gigabyte and more, if nothing counted
    extra = [f"more{index}" for index in range(40)]
    newest = copy.deepcopy(TICKS)
    newest["fields"][1]["type"]["items"]["fields"] += [{"name": name, "type": "string", "default": "x"} for name in extra]
    tick: Any = msgspec.defstruct("Tick", [("on", bool), *((name, str, "x") for name in extra)], frozen=True)
    fields: list[Any] = [("name", str), ("ticks", tuple[tick, ...]), ("grid", tuple[tuple[bool, ...], ...], ())]
    cls: Any = event("ticks", key="name")(msgspec.defstruct("Ticks", fields, frozen=True))
    check_cost(Codec([cls], released(tmp_path, TICKS, newest)).decoder(cls), body)


def test_an_older_version_with_too_many_items_says_so(tmp_path: Path) -> None:
    grown = {**TICKS, "fields": [*TICKS["fields"], {"name": "more", "type": "long", "default": 0}]}
    fields: list[Any] = [
        *((one.name, one.type) for one in msgspec.structs.fields(Ticks)[:2]),
        ("grid", tuple[tuple[bool, ...], ...], ()),
    ]
    cls: Any = event("ticks", key="name")(msgspec.defstruct("Ticks", [*fields, ("more", int, 0)], frozen=True))
    decode = Codec([cls], released(tmp_path, TICKS, grown)).decoder(cls)
    with pytest.raises(DecodeError) as caught:
        decode(HEAD + BODIES["smallest items"](MIB))
    assert str(caught.value) == "byte 6: more items than one record may hold, in ticks"


def test_a_length_never_points_back() -> None:
    # else a list of so many texts could read one byte for ever
    with pytest.raises(ValueError, match="below 0"):
        read_length(b"\x01", 0)


def test_an_order_of_a_thousand_lines_is_far_from_the_bounds() -> None:
    registry = FolderRegistry()
    number = registry.versions("orders.submitted-value")[-1].id
    lines = varint(1000) + b"\x02a\x02b\x02\x04" * 1000 + b"\x00"
    value = b"\x00" + number.to_bytes(4) + b"\x02i\x02c\x02s\x00\x06USD" + lines
    assert len(order_codec().decoder(OrderSubmitted)(value).lines) == 1000
