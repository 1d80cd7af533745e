"""Slow, exact readings of bytes and of events that say what is wrong and where.

The one rule: nothing is built and nothing is believed. Every length, index and count is checked against what is there, so that
time is bounded by the body's size.
"""

from collections.abc import Iterable
from datetime import datetime
from itertools import chain
from typing import Any, Final

from streams.errors import DecodeError
from streams.schema import Node
from streams.varint import MAX_MILLIS, MIN_MILLIS

_EXPECTED: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,),
    "bytes": (bytes,),
    "boolean": (bool,),
    "long": (int,),
    "timestamp": (datetime,),
    "double": (float, int),
    "array": (tuple,),
    "map": (dict,),
}


class _Fault(Exception):
    """Something wrong at a byte; `path` grows from the inside out."""

    def __init__(self, what: str, at: int) -> None:
        super().__init__(what)
        self.what = what
        self.at = at
        self.path: list[str] = []


def skim(data: bytes, start: int, node: Node, max_items: int) -> None:
    """Read a body from `start` to its end. Raises `DecodeError` for the first thing that is wrong, or too many items."""
    reading = _Reading(data, max_items)
    try:
        end = reading.value(node, start)
        if end != len(data):
            raise _Fault(f"{len(data) - end} bytes after the end of {node.name}", end)
    except _Fault as fault:
        at = "".join(fault.path).lstrip(".")
        raise DecodeError(f"byte {fault.at}: {fault.what}" + (f", in {at}" if at else "")) from None


def width(node: Node) -> int:
    """How many values one item of the schema's arrays and maps holds at most; 0 for a schema without any."""
    inner = max((width(field.node) for field in node.fields), default=0)
    return inner if node.item is None else max(width(node.item), _values(node.item))


def _values(node: Node) -> int:
    return 1 + sum(_values(field.node) for field in node.fields)


class _Reading:
    def __init__(self, data: bytes, max_items: int) -> None:
        self.data = data
        self.left = max_items
        self.steps = {"string": self.string, "bytes": self.raw, "array": self.blocks, "map": self.blocks, "record": self.record}

    def value(self, node: Node, pos: int) -> int:
        if node.optional:
            branch, after = self.long(pos)
            if branch not in {0, 1}:
                raise _Fault(f"branch {branch} of a union of 2", pos)
            if branch == 0:
                return after
            pos = after
        step = self.steps.get(node.kind)
        return step(node, pos) if step else self.number(node, pos)

    def long(self, pos: int) -> tuple[int, int]:
        n = 0
        for index, byte in enumerate(self.data[pos : pos + 10]):
            n |= (byte & 127) << (7 * index)
            if byte < 128:
                if n >= 2**64:
                    break
                return (n >> 1) ^ -(n & 1), pos + index + 1
        else:
            if len(self.data) - pos < 10:
                raise _Fault("the bytes end inside a number", len(self.data))
        raise _Fault("a number of more than 64 bits", pos)

    def number(self, node: Node, pos: int) -> int:
        if node.kind in {"boolean", "double"}:
            after = pos + (1 if node.kind == "boolean" else 8)
            if after > len(self.data):
                raise _Fault(f"the bytes end inside a {node.kind}", len(self.data))
            if node.kind == "boolean" and self.data[pos] > 1:
                raise _Fault(f"a boolean of {self.data[pos]}", pos)
            return after
        value, after = self.long(pos)
        if node.kind == "timestamp" and not MIN_MILLIS <= value <= MAX_MILLIS:
            raise _Fault(f"a time of {value} ms, outside year 1 to 9999", pos)
        if node.kind == "enum" and not 0 <= value < len(node.symbols):
            raise _Fault(f"symbol {value} of an enum of {len(node.symbols)}", pos)
        return after

    def raw(self, node: Node, pos: int) -> int:
        size, after = self.long(pos)
        if size < 0 or size > len(self.data) - after:
            raise _Fault(f"a {node.kind} of {size} bytes, where {len(self.data) - after} are left", pos)
        return after + size

    def string(self, node: Node, pos: int) -> int:
        end = self.raw(node, pos)
        _, start = self.long(pos)
        try:
            self.data[start:end].decode()
        except UnicodeDecodeError as error:
            raise _Fault(f"no UTF-8 ({error.reason})", start + error.start) from None
        return end

    def blocks(self, node: Node, pos: int) -> int:
        item = node.items
        index = 0
        while True:
            count, after = self.long(pos)
            if count == 0:
                return after
            if count < 0:
                count = -count
                _, after = self.long(after)  # the block's size in bytes, for those who skip it
            if count > len(self.data) - after:
                raise _Fault(f"{count} items, where {len(self.data) - after} bytes are left", pos)
            self.left -= count
            if self.left < 0:
                raise _Fault("more items than one record may hold", pos)
            pos = after
            for _ in range(count):
                try:
                    if node.kind == "map":
                        pos = self.string(_KEY, pos)
                    pos = self.value(item, pos)
                except _Fault as fault:
                    fault.path.insert(0, f"[{index}]")
                    raise
                index += 1

    def record(self, node: Node, pos: int) -> int:
        for field in node.fields:
            try:
                pos = self.value(field.node, pos)
            except _Fault as fault:
                fault.path.insert(0, f".{field.name}")
                raise
        return pos


_KEY: Final = Node("string")


def fault_of(node: Node, value: Any, at: str) -> str | None:
    """What of a value its schema cannot hold, such as `lines[2].quantity: an int is expected, not float`; None if nothing."""
    if node.optional and value is None:
        return None
    inner: Iterable[tuple[Node, Any, str]]
    if node.kind == "record":
        inner = ((field.node, getattr(value, field.name, None), f"{at}.{field.name}") for field in node.fields)
    elif node.kind == "array" and type(value) is tuple:
        inner = ((node.items, one, f"{at}[{index}]") for index, one in enumerate(value))
    elif node.kind == "map" and type(value) is dict:
        keys = ((_KEY, key, f"{at} (a key)") for key in value)
        inner = chain(keys, ((node.items, one, f"{at}[{key!r}]") for key, one in value.items()))
    else:
        what = _scalar_fault(node, value)
        return f"{at}: {what}" if what else None
    return next((fault for one in inner if (fault := fault_of(*one))), None)


def _scalar_fault(node: Node, value: Any) -> str | None:
    if node.kind == "enum":
        return None if getattr(value, "value", value) in node.symbols else f"{value!r} is none of {', '.join(node.symbols)}"
    expected = _EXPECTED[node.kind]
    fits = isinstance(value, expected)
    if not fits:
        return f"{expected[0].__name__} is expected, not {type(value).__name__}"
    fault = None
    if node.kind == "long" and not -(2**63) <= value < 2**63:
        fault = f"{value} does not fit into 64 bits"
    if node.kind == "timestamp" and value.utcoffset() is None:
        fault = "a time without a zone"
    if node.kind == "string" and any("\ud800" <= letter <= "\udfff" for letter in value):
        fault = "no Unicode text (a lone surrogate)"
    return fault
