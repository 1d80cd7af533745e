"""Orders that can be read and mean no good: Unicode, integers, times, keys."""

from typing import Final

from tests.hostile.catalogue import PLACED, Hostile, array, line, order, shop, text

LARGEST: Final = 2**63 - 1
_YEAR_1, _YEAR_9999 = -62_135_596_800_000, 253_402_300_799_999


def _number(name: str, what: str, order_number: str | bytes) -> Hostile:
    """An order number that nothing may be called by."""
    return Hostile(name, what, order(order_number), "told", "order-id-missing")


def _no_text(name: str, what: str, data: bytes) -> Hostile:
    """A product's name that is no UTF-8."""
    return Hostile(name, what, order(name, lines=array(line("A", data))), "undecodable", "no UTF-8")


def _named(name: str, what: str, product: str) -> Hostile:
    """A product's name that is text, and goes through."""
    return Hostile(name, what, order(name, lines=array(line("A", product))), "told")


def _lines(name: str, what: str, says: str, *lines: bytes) -> Hostile:
    return Hostile(name, what, order(name, lines=array(*lines)), "told", says)


UNICODE: Final = (
    _number("id-nul", "NUL in the order number", "a\0b"),
    _number("id-none", "no order number", ""),
    _number("id-blank", "an order number of spaces", "   "),
    _number("id-nbsp", "an order number of a no-break space", "\u00a0"),
    _number("id-bidi", "an order number that reads backwards", "\u202e4321"),
    _number("id-bom", "a byte order mark before the order number", "\ufeff4321"),
    _number("id-zero-width", "a space that nobody sees", "43\u200b21"),
    _number("id-newline", "a line of a log of its own", "1\nERROR towpath.engine all is lost"),
    _number("id-escape", "a terminal's escape sequence", "\x1b[2J\x1b]0;pwned\x07"),
    _number("id-long", "an order number of 100 kB", "9" * 100_000),
    shop("customer-nul", "NUL in the customer number", "told", "customer-id-missing", customer="a\0b"),
    shop("customer-long", "a customer number of 100 kB", "told", "customer-id-missing", customer="9" * 100_000),
    Hostile("id-nfc", "é as one sign …", order("caf\u00e9"), "told"),
    Hostile("id-nfd", "… and as two: another order", order("cafe\u0301"), "told"),
    Hostile("id-4-bytes", "255 signs of four bytes each", order("😀" * 255), "told"),
    Hostile("id-injection", "SQL in the order number", order("'; DROP TABLE orders; --"), "told"),
    Hostile("id-formula", "a spreadsheet's formula", order("=cmd|' /C calc'!A0"), "told"),
    _no_text("surrogate", "half of a surrogate pair", b"\xed\xa0\x80"),
    _no_text("overlong", "a slash in two bytes", b"\xc0\xaf"),
    _no_text("overlong-nul", "NUL as Java writes it", b"a\xc0\x80b"),
    _no_text("cut-sign", "a sign of four bytes without its last", "😀".encode()[:3]),
    _no_text("beyond", "a sign beyond U+10FFFF", b"\xf4\x90\x80\x80"),
    _no_text("latin-1", "another encoding", "Äpfel".encode("latin-1")),
    _named("name-bidi", "a name that turns the rest of the line round", "APPLE\u202eEVIL"),
    _named("name-nul", "NUL and a line break in a name", "AP\0PLE\r\nBcc: all@example.com"),
    _named("name-html", "a script in a name", "<script>alert(1)</script>"),
    _named("name-nonsign", "a code point that is no sign", "APPLE\ufffe\uffff"),
    _named("name-zalgo", "a thousand marks on one letter", "A" + "\u0336" * 1000),
    _named("name-none", "a name without a letter", "\u200b\u200c\u200d"),
    shop("currency-wide", "USD in letters of full width", "told", "currency-unknown", currency="\uff35\uff33\uff24"),
    shop("currency-cyrillic", "a Cyrillic letter in EUR", "told", "currency-unknown", currency="\u0415UR"),
    shop("currency-nul", "NUL behind the currency", "told", "currency-unknown", currency="USD\0"),
    _lines("sku-nul", "NUL in a product number", "sku-missing", line("A\0")),
)
INTEGERS: Final = (
    _lines("quantity-0", "none of it", "bad-quantity", line(quantity=0)),
    _lines("quantity-negative", "one less than none", "bad-quantity", line(quantity=-1)),
    _lines("quantity-least", "-2^63 of it", "bad-quantity", line(quantity=-(2**63))),
    _lines("quantity-largest", "2^63-1 of it", "out-of-stock", line(quantity=LARGEST)),
    _lines("quantity-sum", "two lines of one product that overflow together", "bad-quantity", line(quantity=LARGEST), line()),
    _lines("amount-0", "for nothing", "bad-amount", line(amount=0)),
    _lines("amount-negative", "we are to pay", "bad-amount", line(amount=-1)),
    _lines("amount-least", "-2^63 cents", "bad-amount", line(amount=-(2**63))),
    _lines("amount-largest", "2^63-1 cents: just possible", "", line(amount=LARGEST)),
    _lines("amount-sum", "a total of 2^63 cents", "total-too-large", line(amount=LARGEST), line("B", amount=1)),
    _lines("amount-wraps", "a total that is 0 again in 64 bits", "total-too-large", *[line(amount=2**62)] * 4),
    shop(
        "quantity-65-bits",
        "a quantity of 65 bits",
        "undecodable",
        "a number of more than 64 bits",
        lines=array(line(quantity=2**64)),
    ),
    _lines("lines-1001", "one line more than an order may have", "too-many-lines", *[line()] * 1001),
)
TIMES: Final = (
    shop("time-year-0", "a moment before year 1", "undecodable", "a time of", placed=_YEAR_1 - 1),
    shop("time-year-10000", "a moment after year 9999", "undecodable", "a time of", placed=_YEAR_9999 + 1),
    shop("time-largest", "2^63-1 ms", "undecodable", "outside year 1 to 9999", placed=LARGEST),
    shop("time-least", "-2^63 ms", "undecodable", "outside year 1 to 9999", placed=-(2**63)),
    shop("time-micros", "microseconds taken for milliseconds", "undecodable", "a time of", placed=PLACED * 1000),
    shop("time-first", "the first moment of year 1", "told", placed=_YEAR_1),
    shop("time-last", "the last moment of year 9999", "told", placed=_YEAR_9999),
    shop("time-seconds", "seconds taken for milliseconds: January 1970", "told", placed=PLACED // 1000),
)
KEYS: Final = (
    Hostile("key-null", "no key", order("key-null"), "told", key=None),
    Hostile("key-empty", "an empty key", order("key-empty"), "told", key=b""),
    Hostile("key-bytes", "a key that is no text", order("key-bytes"), "told", key=b"\xff\xfe\x00"),
    Hostile("key-other", "a key that is another order's", order("key-other"), "told", key=b"wire"),
    Hostile("key-long", "a key of 100 kB", order("key-long"), "told", key=b"k" * 100_000),
    Hostile("key-avro", "a key in the wire format", order("key-avro"), "told", key=b"\0\0\0\0\4" + text("key-avro")),
)
RECORDS: Final = (*UNICODE, *INTEGERS, *TIMES, *KEYS)
