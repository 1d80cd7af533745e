"""Sound orders with headers that are too many, too large, no text, or ours."""

from typing import Final

from streams.record import Headers
from tests.hostile.catalogue import Hostile, order

_CASE: Final = "0123456789abcdef0123456789abcdef"


def _told(name: str, what: str, *headers: tuple[str, bytes | None]) -> Hostile:
    return Hostile(name, what, order(name), "told", headers=headers)


def _dead(name: str, what: str, *headers: tuple[str, bytes | None]) -> Hostile:
    """Not even Avro: what of its headers stands in its dead letter?"""
    return Hostile(name, what, b"\xff", "undecodable", "not in the Confluent wire format", headers=headers)


PARKED: Final[Headers] = (
    ("parked-seq", b"-9223372036854775808"),
    ("parked-attempt", b"99"),
    ("parked-due", b"held"),
    ("parked-timestamp", b"0"),
    ("parked-key", b"another"),
    ("parked-null", b""),
    ("parked-case", b"\xff\xff"),
    ("parked-by", b"me"),
)
DEAD: Final[Headers] = (
    ("dead-origin", b"orders.submitted/0/0"),
    ("dead-case", _CASE.encode()),
    ("dead-verdict", b"reject"),
    ("dead-attempts", b"-1"),
    ("dead-first-failed", b"yesterday"),
)
RECORDS: Final = (
    _told("headers-many", "5,000 headers", *[(f"h{n}", b"%d" % n) for n in range(5000)]),
    Hostile(
        "header-large",
        "a header of 900 kB: with the order's own bytes it is more than an output may have",
        order("header-large"),
        "reject",
        "an output to orders.accepted has",
        headers=(("blob", b"\xff" * 1_000_000),),
    ),
    _told("header-half", "a header of 500 kB, which every event of the order carries on", ("blob", b"\xff" * 500_000)),
    _told(
        "header-names",
        "a header without a name, one of 10,000 letters, one with NUL",
        ("", b"x"),
        ("n" * 10_000, b""),
        ("a\0b", b""),
    ),
    _told(
        "header-bytes", "headers that are no text", ("x", b"\xff\xfe"), ("traceparent", b"\xc3("), ("tracestate", b"\0" * 600)
    ),
    _told("header-null", "headers without a value", ("x", None), ("id", None), ("cause", None), ("traceparent", None)),
    _told("header-repeated", "one header a thousand times", *[("x", b"1")] * 1000),
    _told("id-empty", "an empty id", ("id", b"")),
    _told("id-bytes", "an id that is no text", ("id", b"\xff\xfe\x00")),
    _told("id-line", "an id with a line break", ("id", b"1\nERROR")),
    _told("id-100kb", "an id of 100 kB", ("id", b"9" * 100_000)),
    _told("id-two", "two ids", ("id", b"id-two-a"), ("id", b"id-two-b")),
    Hostile("id-first", "an id that …", order("id-first"), "told", headers=(("id", b"the-same"),), partition=0),
    Hostile(
        "id-again",
        "… another order already had: an id names one event, so this is that event once more, and nothing new",
        order("id-again"),
        "silent",
        headers=(("id", b"the-same"),),
        partition=0,
    ),
    _told("cause-forged", "a cause, of which a source's event has none", ("cause", b"0" * 32), ("cause", b"1" * 32)),
    _told("due-forged", "a time for later, which only a stage may say", ("due", b"9999999999999")),
    _told("parked-forged", "an order that says that it is parked", *PARKED),
    _told("dead-forged", "an order that says that it is dead", *DEAD),
    _dead("dead-parked", "no order, that says that it is parked", *PARKED),
    _dead("dead-dead", "no order, that says that it is dead", *DEAD),
    _dead("dead-headers", "no order, with headers that are no text", ("x", b"\xff"), ("id", None), ("", None)),
    _dead("dead-many", "no order, with 5,000 headers", *[(f"h{n}", None) for n in range(5000)]),
)
