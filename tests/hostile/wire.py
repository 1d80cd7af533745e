"""Bytes that are no event, or only just: the wire format, Avro's lengths, counts and numbers, and bombs of them."""

import gzip
import json
from typing import Final

from tests.hostile.catalogue import Hostile, array, head, line, long, order, text

MIB: Final = 1 << 20
_ROOM: Final = MIB - 600  # of a record of the size that a broker takes by default

GOOD: Final = order("wire")
_START: Final = head(4) + text("wire") + text("c1") + text("s1") + long(0) + text("USD")
_MILLION: Final = text("") + text("") + b"\0\0"  # the smallest line


def _dead(name: str, what: str, value: bytes | None, says: str) -> Hostile:
    return Hostile(name, what, value, "undecodable", says)


FRAME: Final = (
    _dead("no-bytes", "an empty value", b"", "0 bytes: not in the Confluent wire format"),
    _dead("null-value", "no value at all: a tombstone", None, "no value"),
    Hostile("null-all", "neither key nor value", None, "undecodable", "no value", key=None),
    _dead("one-byte", "a lone zero", b"\0", "1 bytes: not in the Confluent wire format"),
    _dead("head-cut", "a schema id of three bytes", b"\0\0\0\4", "4 bytes"),
    _dead("no-body", "a head and nothing behind it", head(4), "byte 5"),
    _dead("magic", "a first byte that is not 0", b"\1" + GOOD[1:], "byte 0 is 1, not 0"),
    _dead("headless", "an Avro body without a head", GOOD[5:], "byte 0 is 8, not 0"),
    _dead("json", "JSON in the place of Avro", json.dumps({"order_id": "1"}).encode(), "byte 0 is 123"),
    _dead("container", "an Avro file of its own, with its schema", b"Obj\x01\x04\x14avro.codec\x08null" + bytes(40), "byte 0"),
    _dead("gzip", "a value packed once more", gzip.compress(GOOD, mtime=0), "byte 0 is 31"),
    _dead("utf-16", "text of another alphabet's encoding", "order".encode("utf-16"), "byte 0 is 255"),
    _dead("id-unknown", "a schema that nobody has released", head(99) + GOOD[5:], "no schema has the id 99"),
    _dead("id-zero", "the id 0", head(0) + GOOD[5:], "no schema has the id 0"),
    _dead("id-largest", "the largest id", head(2**32 - 1) + GOOD[5:], "no schema has the id 4294967295"),
    _dead("id-little", "an id with its bytes the other way round", b"\0\4\0\0\0" + GOOD[5:], "no schema has the id 67108864"),
    _dead("id-other", "another record's schema", head(13) + GOOD[5:], "schema 13 is PaymentSettled, not OrderSubmitted"),
    _dead("id-ours", "the schema of the runtime's own cases", head(10) + GOOD[5:], "schema 10 is Case"),
    _dead("protobuf", "Protobuf in the wire format", head(4) + b"\0\x0a\x04wire", "byte"),
    _dead("twice", "two orders in one value", GOOD + GOOD, "bytes after the end of OrderSubmitted"),
    _dead("trailing", "one byte too many", GOOD + b"\0", "1 bytes after the end of OrderSubmitted"),
    _dead("cut-half", "half an order", GOOD[: len(GOOD) // 2], "byte"),
    _dead("cut-last", "all but the last byte", GOOD[:-1], "the bytes end inside a number"),
)
BOMBS: Final = (
    _dead("text-huge", "a string of 2^62 bytes", head(4) + long(2**62) + b"x", "a string of 4611686018427387904 bytes"),
    _dead("text-negative", "a string of -1 bytes", head(4) + long(-1) + b"x" * 9, "a string of -1 bytes"),
    _dead("text-least", "a string of -2^63 bytes", head(4) + long(-(2**63)) + b"x" * 9, "a string of -9223372036854775808"),
    _dead("array-huge", "2^62 lines", _START + long(2**62) + line(), "4611686018427387904 items"),
    _dead("array-least", "a block of -2^63 lines", _START + long(-(2**63)) + long(8) + line(), "9223372036854775808 items"),
    _dead("array-endless", "blocks that promise more and more", _START + (long(-(2**63)) + long(1)) * 5000, "items, where"),
    _dead("number-endless", "a number that never ends", head(4) + b"\x80" * _ROOM, "a number of more than 64 bits"),
    _dead("number-wide", "a number of 70 bits", _START + b"\xff" * 9 + b"\x7f", "a number of more than 64 bits"),
    _dead("zeros", "a mebibyte of zeros", head(4) + bytes(_ROOM), "bytes after the end of OrderSubmitted"),
    _dead("ones", "a mebibyte of 0xff", b"\xff" * _ROOM, "byte 0 is 255"),
    Hostile(
        "lines-empty",
        "a quarter of a million lines of four bytes",
        order("lines-empty", lines=long(250_000) + _MILLION * 250_000 + b"\0"),
        "told",
        "too-many-lines",
    ),
    Hostile(
        "lines-blocks",
        "a block for every line",
        order("lines-blocks", lines=(long(1) + line()) * 30_000 + b"\0"),
        "told",
        "too-many-lines",
    ),
    Hostile(
        "name-long",
        "a product's name of 900 kB: the shop may say it, but no event that quotes it fits into a topic",
        order("name-long", lines=array(line("none", "n" * 900_000))),
        "reject",
        "an output to inventory.rejected has",
        "inventory",
    ),
    Hostile("number-long", "0 written in two bytes", order("number-long", lines=b"\x82\x00" + line() + b"\x80\x00"), "told"),
    Hostile(
        "block-sizes",
        "a block that lies about its size",
        order("block-sizes", lines=long(-1) + long(7) + line() + b"\0"),
        "told",
    ),
    Hostile("lines-0", "no lines", order("lines-0", lines=b"\0"), "told", "no-lines"),
)
RECORDS: Final = (*FRAME, *BOMBS)
