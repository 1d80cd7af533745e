"""Files and bodies from outside: lines for `towpath send`, the provider's statements, and its webhooks.

The one rule: as in the catalogue of records, each says what is wrong with it and what has to be said of it.
"""

import gzip
import json
from typing import Any, Final

import msgspec

MIB: Final = 1 << 20
ORDER: Final[dict[str, Any]] = {
    "order_id": "7",
    "customer_id": "8",
    "store_id": "9",
    "placed_at": "2017-01-01T11:53:26Z",
    "currency": "USD",
    "lines": [{"sku": "A", "name": "APPLE", "quantity": 1, "amount_minor": 50}],
}


class Input(msgspec.Struct, frozen=True):
    """A line, a statement or a body. `says` is part of what is said of it; "" for one that is taken."""

    name: str
    what: str
    data: bytes
    says: str


_EARLY, _LATE = b"0001-01-01T00:00:00+23:59", b"9999-12-31T23:59:59-23:59"


def _order(**changed: Any) -> bytes:
    return json.dumps(ORDER | changed).encode()


_GOOD: Final = _order()


def _quantity(literal: bytes) -> bytes:
    return _GOOD.replace(b'"quantity": 1', b'"quantity": ' + literal)


def _with(member: bytes) -> bytes:
    return _GOOD[:-1] + b", " + member + b"}"


LINES: Final = (
    Input("words", "no JSON", b"an order, please", "malformed"),
    Input("cut", "half an object", _GOOD[:60], "malformed"),
    Input("trailing", "two objects in a line", _GOOD + b" " + _GOOD, "trailing characters"),
    Input("list", "a list", b"[" + _GOOD + b"]", "Expected `object`, got `array`"),
    Input("null", "null", b"null", "Expected `object`, got `null`"),
    Input("brackets", "100,000 brackets", b"[" * 100_000, "Expected `object`"),
    Input("deep-list", "100,000 lists in an unknown field", _with(b'"x": ' + b"[" * 100_000 + b"]" * 100_000), "recursion"),
    Input("deep-object", "the same of objects", _with(b'"x": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000), "recursion"),
    Input("unknown", "a field that nobody knows", _with(b'"note": "ring twice"'), "no field `note`"),
    Input("twice", "a field twice: the last one counts, as in most readers of JSON", _with(b'"currency": "EUR"'), ""),
    Input("nan", "NaN", _quantity(b"NaN"), "malformed"),
    Input("infinity", "Infinity", _quantity(b"-Infinity"), "malformed"),
    Input("exponent", "10^999", _quantity(b"1e999"), "out of range"),
    Input("float", "one and a half", _quantity(b"1.5"), "Expected `int`, got `float`"),
    Input("whole-float", "1.0", _quantity(b"1.0"), "Expected `int`, got `float`"),
    Input("text-number", "a number in quotes", _quantity(b'"1"'), "Expected `int`, got `str`"),
    Input("truth", "true", _quantity(b"true"), "Expected `int`, got `bool`"),
    Input("digits", "a number of 5,000 digits", _quantity(b"9" * 5000), "out of range"),
    Input("64-bits", "2^63", _quantity(b"9223372036854775808"), "does not fit into 64 bits"),
    Input("surrogate", "half of a surrogate pair", _GOOD.replace(b"APPLE", b"\\ud800"), "surrogate"),
    Input("latin-1", "another encoding", _GOOD.replace(b"APPLE", b"\xc4PFEL"), "utf-8"),
    Input("utf-16", "UTF-16", _GOOD.decode().encode("utf-16-le").replace(b"\n", b""), "malformed"),
    Input("bom", "a byte order mark", b"\xef\xbb\xbf" + _GOOD, "malformed"),
    Input("nul", "NUL in the line", _GOOD.replace(b"APPLE", b"AP\0LE"), "malformed"),
    Input("nul-escaped", "NUL in a name, escaped: intake will see to it", _GOOD.replace(b"APPLE", b"AP\\u0000LE"), ""),
    Input("time-local", "a time of which nobody knows where", _order(placed_at="2017-01-01T11:53:26"), "a time without a zone"),
    Input("time-past", "a day that there was not", _order(placed_at="2017-02-29T00:00:00Z"), "Invalid RFC3339"),
    Input("time-zone", "after year 9999 in Greenwich", _order(placed_at=_LATE.decode()), "a time outside year 1 to 9999"),
    Input("time-number", "a number of milliseconds", _order(placed_at=1_483_271_606_000), "Expected `datetime`"),
    Input("long", "10 MB in one line", _order(customer_id="9" * 10_000_000), ""),
    Input("longest", "more than a line may have", _order(customer_id="9" * (17 * MIB)), "longer than 16,777,216 bytes"),
)  # fmt: skip


def packed() -> bytes:
    """A file of a megabyte: a line of 128 MiB, and a good one."""
    return gzip.compress(bytes(128 * MIB) + b"\n" + _GOOD + b"\n", 1)


_AT: Final = b"2024-05-01T10:00:00.000Z"
_HEAD: Final = b"number,at,kind,payment_id,order_id,idempotency_key,amount_minor,currency\n"
_ROW: Final = b"1,2024-05-01T10:00:00.000Z,capture,pay_1,o1,key,100,USD\n"


def _row(name: str, what: str, old: bytes, new: bytes, says: str) -> Input:
    return Input(name, what, _HEAD + _ROW.replace(old, new), says)


STATEMENTS: Final = (
    Input("empty", "an empty file: a day on which nothing was paid", b"", ""),
    Input("head", "a head without a line", _HEAD, ""),
    Input("headless", "lines without a head", _ROW + _ROW, ":2: no line of a statement"),
    Input("html", "the login page of the provider's site", b"<!doctype html>\n<html>\n", ":2: no line of a statement"),
    Input("bom", "a byte order mark, as a spreadsheet writes it", b"\xef\xbb\xbf" + _HEAD + _ROW, ":2: no line of a statement"),
    Input("semicolons", "semicolons for commas", (_HEAD + _ROW).replace(b",", b";"), ":2: no line of a statement"),
    Input("short", "a line that ends too early", _HEAD + _ROW + b"2,2024-05-01\n", ":3: no line of a statement"),
    Input("quote", "a quote that never ends", _HEAD + b'"' + _ROW * 9, ":2: no line of a statement"),
    Input("field", "a field of 200 kB", _HEAD + b"9" * 200_000 + _ROW, "field larger than field limit"),
    Input("latin-1", "no UTF-8", _HEAD + b"\xff" + _ROW, "cannot read the statement"),
    _row("nul", "NUL in an order number", b"o1", b"o\x001", ":2: no line of a statement"),
    _row("days", "an order with the name that our own notes have", b"o1", b"\0days", ":2: no line of a statement"),
    _row("level", "the same of a product", b"o1", b"\0level A", ":2: no line of a statement"),
    _row("amount", "no amount", b"100", b"1.00", ":2: no line of a statement"),
    _row("amount-65", "an amount of 65 bits", b"100", b"9" * 20, ":2: no line of a statement"),
    _row("amount-digits", "an amount of 5,000 digits", b"100", b"9" * 5000, ":2: no line of a statement"),
    _row("time", "no time", _AT, b"yesterday", ":2: no line of a statement"),
    _row("time-last", "after year 9999", _AT, _LATE, ":2: no line of a statement"),
    _row("time-first", "before year 1", _AT, _EARLY, ":2: no line of a statement"),
    _row("kind", "a kind of line that we do not know: nothing is compared with it", b"capture", b"teleport", ""),
    _row("formula", "a spreadsheet's formula", b"pay_1", b"=cmd|' /C calc'!A0", ""),
)  # fmt: skip

_DATA: Final = b'{"id": "pay_1", "order_id": "o1", "currency": "USD", "moved_minor": 100}'


def _webhook(data: bytes = _DATA, kind: bytes = b"payment.settled", at: bytes = b"2024-05-01T10:00:00Z") -> bytes:
    return b'{"type": "' + kind + b'", "timestamp": "' + at + b'", "data": ' + data + b"}"


def _hook(name: str, what: str, old: bytes, new: bytes, says: str) -> Input:
    return Input(name, what, _webhook(_DATA.replace(old, new)), says)


WEBHOOKS: Final = (
    Input("sound", "a settlement, as it should be", _webhook(), ""),
    Input("nothing", "no body", b"", "no event of a payment"),
    Input("words", "no JSON", b"payment=settled", "no event of a payment"),
    Input("list", "a list", b"[]", "Expected `object`"),
    Input("bytes", "no text", b"\xff\xfe" * 99, "no event of a payment"),
    Input("dataless", "no data", b'{"type": "payment.settled", "timestamp": "2024-05-01T10:00:00Z"}', "no event of a payment"),
    Input("deep-data", "30,000 lists", _webhook(b"[" * 30_000 + b"]" * 30_000), "no event of a payment"),
    Input("deep-field", "a field of it", _webhook(b'{"x": ' + b"[" * 30_000 + b"]" * 30_000 + b"}"), "no event of a payment"),
    Input("deep-other", "a field beside it", b'{"x": ' + b'{"a":' * 10_000 + b"1" + b"}" * 10_001, "no event of a payment"),
    Input("time-last", "after year 9999", _webhook(at=b"9999-12-31T23:59:59-23:59"), "no event of a payment"),
    Input("time-first", "before year 1", _webhook(at=b"0001-01-01T00:00:00+23:59"), "no event of a payment"),
    Input("time-none", "no time", _webhook(at=b"soon"), "Invalid RFC3339"),
    _hook("negative", "less than nothing", b"100", b"-1", ">= 0"),
    _hook("65-bits", "2^63 cents", b"100", b"9223372036854775808", "no event of a payment"),
    _hook("digits", "an amount of 5,000 digits", b"100", b"9" * 5000, "out of range"),
    _hook("nan", "NaN cents", b"100", b"NaN", "malformed"),
    _hook("surrogate", "half of a surrogate pair", b"o1", b"\\ud800", "no event of a payment"),
    _hook("nameless", "a payment without a number", b"pay_1", b"", "length >= 1"),
    _hook("named", "a payment with a number of 10 kB", b"pay_1", b"p" * 10_000, "length <= 255"),
    Input("large", "a body of 100 kB", b" " * 100_000 + _webhook(), "Maximum request body size"),
    Input("unknown", "an event that we do not know", _webhook(kind=b"payment.teleported"), ""),
)  # fmt: skip
