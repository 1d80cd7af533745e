"""What comes by the other ways in, and what somebody who got at a broker may write where only stages do.

Nobody but a stage may write to its topics and its table: ACLs say so. Somebody who can all the same must not stop a stage.
"""

from typing import Any, Final

from streams.record import Headers
from tests.hostile.catalogue import CANCELLED, DISPUTED, IDS, PLACED, SETTLED, Hostile, array, head, long, order, text

LEAST, LARGEST = -(2**63), 2**63 - 1
TABLE: Final = "orders.inventory.retry"


def _event(topic: str, *parts: bytes) -> bytes:
    return head(IDS[topic]) + b"".join(parts)


def cancelled(order_id: str, reason: str = "no more") -> bytes:
    """A cancellation."""
    return _event(CANCELLED, text(order_id), text(reason), text("shop"))


def told_of(topic: str, payment: str, amount: int = 100, at: int = PLACED) -> bytes:
    """What the provider tells of a payment: a settlement or a dispute."""
    return _event(topic, text("order"), text(payment), text("USD"), long(amount), long(at))


def _closed(order_id: str, closing: bytes, payment: bytes) -> bytes:
    return _event("orders.closed", text(order_id), text("c1"), text("USD"), long(100), closing, payment, b"\0\0")


_DEMAND: Final = text("A") + text("APPLE")


def _accepted(order_id: str, demand: bytes) -> bytes:
    return _event("orders.accepted", text(order_id), text("c1"), text("s1"), long(PLACED), text("USD"), long(100), demand)


def _at(stage: str, topic: str, name: str, what: str, value: bytes | None, end: str, says: str = "") -> Hostile:  # noqa: PLR0917  # a row
    return Hostile(name, what, value, end, says, stage, topic)


EVENTS: Final = (
    _at("inventory", CANCELLED, "cancel-garbage", "no cancellation", b"\0\0\0", "undecodable", "3 bytes"),
    _at("inventory", CANCELLED, "cancel-null", "a null in its place", None, "undecodable", "no value"),
    _at("inventory", CANCELLED, "cancel-order", "an order in its place", order("x"), "undecodable", "is OrderSubmitted"),
    _at("inventory", CANCELLED, "cancel-nul", "NUL in its order number", cancelled("a\0b"), "reject", "readable order number"),
    _at(
        "inventory",
        CANCELLED,
        "cancel-bidi",
        "an order number that reads backwards",
        cancelled("\u202e1"),
        "reject",
        "readable",
    ),
    _at("inventory", CANCELLED, "cancel-early", "of an order that never comes", cancelled("cancel-early"), "silent"),
    _at("inventory", CANCELLED, "cancel-long", "a reason of 900 kB", cancelled("cancel-long", "!" * 900_000), "silent"),
    _at("inventory", CANCELLED, "cancel-nul-reason", "a reason of NULs", cancelled("cancel-nul-reason", "\0" * 9), "silent"),
    _at("settlement", SETTLED, "settle-garbage", "no settlement", b"\xff" * 20, "undecodable", "byte 0 is 255"),
    _at("settlement", SETTLED, "settle-dispute", "a dispute in its place", told_of(DISPUTED, "p"), "undecodable", "schema 12"),
    _at("settlement", SETTLED, "settle-stranger", "a payment that is not ours", told_of(SETTLED, "p"), "retry", "no payment p"),
    _at("settlement", SETTLED, "settle-nul", "NUL in its number", told_of(SETTLED, "p\0"), "reject", "readable number"),
    _at("settlement", SETTLED, "settle-least", "-2^63 cents", told_of(SETTLED, "q", LEAST), "retry", "no payment q"),
    _at("settlement", SETTLED, "settle-time", "after year 9999", told_of(SETTLED, "r", at=LARGEST), "undecodable", "a time of"),
    _at(
        "settlement",
        DISPUTED,
        "dispute-stranger",
        "a payment that is not ours",
        told_of(DISPUTED, "s"),
        "retry",
        "no payment s",
    ),
    _at("settlement", DISPUTED, "dispute-nul", "NUL in its number", told_of(DISPUTED, "\0"), "reject", "readable number"),
)
FORGED: Final = (
    _at("inventory", "orders.accepted", "accept-garbage", "no order", b"\0" * 9, "undecodable", "no schema has the id 0"),
    _at(
        "inventory",
        "orders.accepted",
        "accept-negative",
        "-1 of a product, which the database knows to refuse",
        _accepted("accept-negative", array(_DEMAND + long(-1))),
        "retry",
        "IntegrityError",
    ),
    _at(
        "inventory",
        "orders.accepted",
        "accept-largest",
        "2^63-1 of a product",
        _accepted("accept-largest", array(_DEMAND + long(LARGEST))),
        "told",
        "out-of-stock",
    ),
    _at(
        "inventory",
        "payments.captured",
        "capture-stranger",
        "paid for, and never accepted",
        _event("payments.captured", text("stranger"), text("c1"), text("USD"), long(-1), text("pay_stranger")),
        "reject",
        "order stranger is new",
    ),
    _at("payment", "inventory.reserved", "reserve-garbage", "no reservation", b"{}", "undecodable", "2 bytes"),
    _at(
        "notification",
        "orders.closed",
        "close-symbol",
        "the tenth of four ways to end",
        _closed("close-symbol", long(9), b"\0"),
        "undecodable",
        "symbol 9 of an enum of 4, in closing",
    ),
    _at(
        "notification",
        "orders.closed",
        "close-branch",
        "the third of two branches",
        _closed("close-branch", long(0), long(2)),
        "undecodable",
        "branch 2 of a union of 2, in payment_id",
    ),
    _at("delivery", "notifications.requested", "deliver-garbage", "no message", b"\0\0\0\0\x16\xff", "undecodable", "byte"),
)


def _parked(name: str, what: str, end: str, says: str = "", *, value: bytes | None = None, **changed: bytes | None) -> Hostile:
    """A record on inventory's table, in partition 0, as the stage itself would write it, but for what is `changed`."""
    key = changed.pop("key", b"orders.cancelled/0/9%d" % _number(name))
    ours: dict[str, Any] = {"seq": b"0", "attempt": b"0", "due": b"0", "timestamp": b"0", "key": b"k", "by": b"me"}
    ours |= {part.replace("_", "-"): content for part, content in changed.items()}
    ours["by"] = ours.pop("by")  # it is the last
    headers: Headers = tuple((f"parked-{part}", content) for part, content in ours.items())
    return Hostile(name, what, value or cancelled(name), end, says, "inventory", TABLE, key, headers, partition=0)


def _number(name: str) -> int:
    return int.from_bytes(name.encode()) % 10**6


_X: Final = b"x" * 9
"""No event."""
TABLES: Final = (
    Hostile("table-bytes", "bytes that nobody of us wrote", b"\xff" * 50, "silent", topic=TABLE, key=b"orders.cancelled/0/1"),
    Hostile("table-tombstone", "the end of a record that never was", None, "silent", topic=TABLE, key=b"orders.cancelled/0/2"),
    _parked("table-sound", "one that is as it should be: a cancellation that waits", "silent"),
    _parked("table-value", "a record that is no event", "undecodable", "byte 0 is 120", value=_X),
    _parked("table-topic", "of a topic that the stage does not read", "reject", "does not consume", key=b"weather/0/1"),
    _parked("table-key", "a key that is no place", "silent", key=b"orders.cancelled"),
    _parked("table-key-bytes", "a key that is no text", "silent", key=b"\xff/0/1"),
    _parked("table-partition", "of another partition", "silent", key=b"orders.cancelled/1/1"),
    _parked("table-offset", "an offset of 100 digits", "silent", key=b"orders.cancelled/0/" + b"9" * 100),
    _parked("table-seq", "a sequence of 65 bits", "silent", seq=b"-18446744073709551616"),
    _parked("table-attempt", "2^63 attempts, and no event", "silent", value=_X, attempt=b"9223372036854775808"),
    _parked("table-attempts", "2^63-1 attempts, and no event", "silent", value=_X, attempt=b"9223372036854775807"),
    _parked("table-due", "due in 10^300 ms", "silent", due=b"9" * 300),
    _parked("table-due-word", "due when?", "silent", due=b"nan"),
    _parked("table-digits", "a number of 5,000 digits", "silent", due=b"9" * 5000),
    _parked("table-timestamp", "of year 300,000,000", "silent", timestamp=b"9999999999999999999"),
    _parked("table-first", "failed first after the end of time", "silent", value=_X, first=b"99999999999999999", error=b"E"),
    _parked("table-case", "no event, with a case that is none", "undecodable", "byte 0 is 120", value=_X, case=b"\xff\xff"),
    _parked("table-case-cut", "no event, with the head of a case", "undecodable", "1 bytes", value=b"x", case=head(10)),
    _parked("table-case-done", "a cancellation, with a case that is none", "silent", case=b"\xff\xff"),
    _parked("table-error", "an error that is no text", "silent", error=b"\xff\xfe", fingerprint=b"\xff"),
    _parked(
        "table-timer",
        "a deadline of an order that there is not",
        "reject",
        "is new",
        key=b"inventory.payment-due/0/-77",
        value=head(18) + text("none"),
    ),
)
RECORDS: Final = (*EVENTS, *FORGED, *TABLES)
