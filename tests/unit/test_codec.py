"""The codec's bytes, and what it says of bytes and of events that are wrong."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streams.codec import Codec, decode_any
from streams.errors import DecodeError, EncodeError, SetupError
from streams.record import event
from streams.registry import FolderRegistry
from tests.property.contracts import EVERYTHING, SAMPLE, Colour, Everything, Part, order_codec, released
from topologies.orders.events import OrderLine, OrderSubmitted, PaymentFailed, StockReleased

LINES = (OrderLine("1095275", "ROLLS", 1, 50), OrderLine("9", "é", -2, 0))
ORDER = OrderSubmitted("42", "900", "330", datetime(2017, 1, 1, 11, 53, 26, tzinfo=UTC), "USD", LINES)
BODY = (
    "04 3432  06 393030  06 333330  e0bb849eab56  06 555344"
    "  04  0e 31303935323735  0a 524f4c4c53  02  64  02 39  04 c3a9  03  00  00"
)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return Codec([Everything], released(tmp_path_factory.mktemp("kinds"), EVERYTHING))


def with_values(event: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(event, **changes)


def head(cls: type) -> bytes:
    registry = FolderRegistry()
    release = registry.versions(f"{cls.__event__.topic}-value")[-1]  # type: ignore[attr-defined]  # an event class
    return b"\x00" + release.id.to_bytes(4)


def test_the_bytes_are_those_of_the_confluent_format_and_the_avro_specification() -> None:
    expected = head(OrderSubmitted) + bytes.fromhex(BODY)
    assert order_codec().encoder(OrderSubmitted)(ORDER) == expected
    assert order_codec().decoder(OrderSubmitted)(expected) == ORDER


def test_blocks_with_a_size_and_several_blocks_are_read() -> None:
    lines = bytes.fromhex("01 22 0e 31303935323735  0a 524f4c4c53  02  64   02  02 39  04 c3a9  03  00  00")
    value = order_codec().encoder(OrderSubmitted)(ORDER)
    cut = value.index(bytes.fromhex("04 0e 3130"))
    assert order_codec().decoder(OrderSubmitted)(value[:cut] + lines) == ORDER


def changed(at: str, new: str) -> bytes:
    """The order's bytes with some hexadecimal digits replaced, once."""
    body = BODY.replace(" ", "")
    assert at in body
    return head(OrderSubmitted) + bytes.fromhex(body.replace(at, new.replace(" ", ""), 1))


GOOD = head(OrderSubmitted) + bytes.fromhex(BODY)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, "no value"),
        (b"", "0 bytes: not in the Confluent wire format"),
        (b"\x00\x00\x00", "3 bytes: not in the Confluent wire format"),
        (b"\x01" + GOOD[1:], "byte 0 is 1, not 0: not in the Confluent wire format"),
        (b'{"order_id": "1"}', "byte 0 is 123, not 0"),
        (b"\x00\xff\xff\xff\xff" + GOOD[5:], "bytes 1-4: no schema has the id 4294967295"),
        (head(PaymentFailed) + GOOD[5:], "is PaymentFailed, not OrderSubmitted"),
        (GOOD[:5], "byte 5: the bytes end inside a number, in order_id"),
        (GOOD[:7], "byte 5: a string of 2 bytes, where 1 are left, in order_id"),
        (GOOD[:-1], f"byte {len(GOOD) - 1}: the bytes end inside a number, in lines"),
        (GOOD + b"\x00\x00", f"byte {len(GOOD)}: 2 bytes after the end of OrderSubmitted"),
        (changed("043432", "03 3432"), "byte 5: a string of -2 bytes, where 45 are left, in order_id"),
        (changed("043432", "feffffffffffffffff01 3432"), "byte 5: a string of 9223372036854775807 bytes"),
        (changed("043432", "ffffffffffffffffff02 3432"), "byte 5: a number of more than 64 bits, in order_id"),
        (changed("043432", "80" * 20), "byte 5: a number of more than 64 bits, in order_id"),
        (changed("3432", "34ff"), "byte 7: no UTF-8 (invalid start byte), in order_id"),
        (changed("e0bb849eab56", "feffffffffffffffff01"), "9223372036854775807 ms, outside year 1 to 9999, in placed_at"),
        (changed("040e31", "feff03 0e31"), "items, where"),
        (changed("040e31", "feffffffffffffffff01 0e31"), "9223372036854775807 items, where"),
        (changed("040e31", "ffffffffffffffffff01 00 0e31"), "9223372036854775808 items, where"),
        (changed("0239", "7e39"), "a string of 63 bytes, where 7 are left, in lines[1].sku"),
        (changed("0264", "02 ffffffffffffffffff02"), "byte 42: a number of more than 64 bits, in lines[0].amount_minor"),
        (changed("c3a9", "ffff"), "no UTF-8 (invalid start byte), in lines[1].name"),
    ],
)  # fmt: skip
def test_bytes_that_are_no_event_say_what_is_wrong_and_where(value: bytes | None, says: str) -> None:
    with pytest.raises(DecodeError) as caught:
        order_codec().decoder(OrderSubmitted)(value)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("field", "bad", "says"),
    [
        ("flag", b"\x02", "a boolean of 2, in flag"),
        ("colour", b"\x04", "symbol 2 of an enum of 2, in colour"),
        ("colour", b"\x01", "symbol -1 of an enum of 2, in colour"),
        ("note", b"\x04", "branch 2 of a union of 2, in note"),
        ("note", b"\x01", "branch -1 of a union of 2, in note"),
    ],
)
def test_an_index_out_of_range_is_refused(kinds: Codec, field: str, bad: bytes, says: str) -> None:
    value = kinds.encoder(Everything)(SAMPLE)
    # the two texts that differ in this one value differ in its byte
    other = {"flag": False, "colour": Colour.RED, "note": "x"}[field]
    differing = zip(value, kinds.encoder(Everything)(with_values(SAMPLE, **{field: other})), strict=False)
    at = next(index for index, (one, two) in enumerate(differing) if one != two)
    with pytest.raises(DecodeError) as caught:
        kinds.decoder(Everything)(value[:at] + bad + value[at + 1 :])
    assert str(caught.value) == f"byte {at}: {says}"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"count": 2**63}, "Everything.count: 9223372036854775808 does not fit into 64 bits"),
        ({"count": 1.5}, "Everything.count: int is expected, not float"),
        ({"count": None}, "Everything.count: int is expected, not NoneType"),
        ({"name": 7}, "Everything.name: str is expected, not int"),
        ({"name": b"x"}, "Everything.name: str is expected, not bytes"),
        ({"name": "\ud800"}, "Everything.name: no Unicode text (a lone surrogate)"),
        ({"flag": "no"}, "Everything.flag: bool is expected, not str"),
        ({"share": "1"}, "Everything.share: float is expected, not str"),
        ({"blob": "x"}, "Everything.blob: bytes is expected, not str"),
        ({"at": datetime(2017, 1, 1)}, "Everything.at: a time without a zone"),  # that is the point
        ({"at": 0}, "Everything.at: datetime is expected, not int"),
        ({"colour": "blue"}, "Everything.colour: 'blue' is none of red, green"),
        ({"grid": ((1,), (2, "x"))}, "Everything.grid[1][1]: int is expected, not str"),
        ({"rest": "abc"}, "Everything.rest: tuple is expected, not str"),
        ({"rest": [1]}, "Everything.rest: tuple is expected, not list"),
        ({"labels": {"a": 1}}, "Everything.labels['a']: str is expected, not int"),
        ({"labels": {1: "a"}}, "Everything.labels (a key): str is expected, not int"),
        ({"parts": (Part("a", ("b", None)),)}, "Everything.parts[0].tags[1]: str is expected, not NoneType"),  # type: ignore[arg-type]  # that is the point
        ({"spare": SAMPLE}, "Everything.spare"),
        ({"note": 7}, "Everything.note: str is expected, not int"),
    ],
)  # fmt: skip
def test_an_event_whose_values_do_not_fit_says_which(kinds: Codec, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(EncodeError) as caught:
        kinds.encoder(Everything)(with_values(SAMPLE, **changes))
    assert says in str(caught.value)


def test_an_event_of_another_class_is_refused_though_it_has_the_fields() -> None:
    released_stock = StockReleased("1", "2", "USD", 3, "declined", "Your bank said no.", ())
    with pytest.raises(EncodeError, match="an event PaymentFailed is expected, not StockReleased"):
        order_codec().encoder(PaymentFailed)(released_stock)  # type: ignore[arg-type]  # that is the point


def test_a_time_is_cut_to_milliseconds_and_kept_in_utc() -> None:
    local = datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC).astimezone()
    order = msgspec.structs.replace(ORDER, placed_at=local)
    codec = order_codec()
    found = codec.decoder(OrderSubmitted)(codec.encoder(OrderSubmitted)(order)).placed_at
    assert found == local - timedelta(microseconds=999)
    assert found.tzinfo is UTC


def test_anybody_s_record_can_be_looked_at() -> None:
    release, value = decode_any(GOOD, FolderRegistry())
    assert release.schema.record == "OrderSubmitted"
    assert value["lines"][1] == {"sku": "9", "name": "é", "quantity": -2, "amount_minor": 0}
    with pytest.raises(DecodeError, match="bytes end"):
        decode_any(GOOD[:-1], FolderRegistry())


def test_a_topic_has_one_class_and_a_class_has_a_schema(tmp_path: Path) -> None:
    @event("things.made", key="name")
    class Twin(msgspec.Struct, frozen=True):
        name: str

    with pytest.raises(SetupError, match=r"Twin and Everything share the topic things\.made"):
        Codec([Everything, Twin], released(tmp_path, EVERYTHING))
    with pytest.raises(SetupError, match=r"no schema for the topic things\.made of Twin"):
        Codec([Twin], FolderRegistry())
