"""The catalogue of bad input: what a hostile or careless producer, operator or partner may hand us, and what has to come of it.

The one rule: it is data. Each case says what is wrong with it, where it goes and how it ends; no case knows a test.

Bytes are put together by hand, so that no encoder of ours refuses to write what is wrong.
"""

from itertools import count
from typing import Any, Final

import msgspec

from streams.memory.log import partition_of
from streams.record import Header, Headers

SUBMITTED, CANCELLED, SETTLED, DISPUTED = "orders.submitted", "orders.cancelled", "payments.settled", "payments.disputed"
IDS: Final = {
    "orders.accepted": 2,
    "orders.submitted": 4,
    "payments.captured": 5,
    "inventory.reserved": 9,
    "payments.disputed": 12,
    "payments.settled": 13,
    "orders.cancelled": 16,
    "orders.closed": 17,
    "notifications.requested": 22,
}
"""The newest schema's id of each topic that something is sent to, as `schemas/LOCK` has it for ever."""
PLACED: Final = 1_483_271_606_000
SHELVES: Final = {
    "order_id": "1",
    "customer_id": "1",
    "store_id": "1",
    "placed_at": "2017-01-01T00:00:00Z",
    "currency": "USD",
    "lines": [{"sku": sku, "name": sku, "quantity": 10**6, "amount_minor": 1} for sku in "AB"],
}
"""An order of whatever there is to be in stock."""
MARK: Final = "hostile"
"""A header that travels on with whatever comes of a record: its case's name."""


class Hostile(msgspec.Struct, frozen=True):
    """A record. How it `end`s:

    `told`: its order is handled to its end, and the customer is told `says` (a code; "" for a confirmed order).
    `undecodable`, `reject`, `retry`: dead at `stage` by that verdict, and the case's message holds `says`.
    `silent`: nothing comes of it. With a `partition` it goes to no other.
    """

    name: str
    what: str
    value: bytes | None
    end: str
    says: str = ""
    stage: str = "intake"
    topic: str = SUBMITTED
    key: bytes | None = b"hostile"
    headers: Headers = ()
    partition: int | None = None

    @property
    def marked(self) -> list[Header]:
        """Its headers, with the mark behind them."""
        return [*self.headers, (MARK, self.name.encode())]


def long(n: int) -> bytes:
    """A number as Avro has it; also one that has no place in 64 bits."""
    n = n << 1 if n >= 0 else (-n << 1) - 1
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes([*out, n])


def text(content: str | bytes) -> bytes:
    """A string as Avro has it, or bytes in the place of one."""
    data = content if isinstance(content, bytes) else content.encode()
    return long(len(data)) + data


def array(*items: bytes) -> bytes:
    """An array in one block."""
    return (long(len(items)) + b"".join(items) if items else b"") + b"\0"


def head(schema_id: int) -> bytes:
    """The five bytes before a body."""
    return b"\0" + schema_id.to_bytes(4)


def line(sku: str | bytes = "A", name: str | bytes = "APPLE", quantity: int = 1, amount: int = 100) -> bytes:
    """A line of an order."""
    return text(sku) + text(name) + long(quantity) + long(amount)


def order(
    order_id: str | bytes,
    *,
    customer: str | bytes = "c1",
    placed: int = PLACED,
    currency: str | bytes = "USD",
    lines: bytes = array(line()),
) -> bytes:
    """An order as a shop submits it; `lines` is the array as it stands in the body."""
    return head(4) + text(order_id) + text(customer) + text("s1") + long(placed) + text(currency) + lines


def shop(name: str, what: str, end: str = "told", says: str = "", **changes: Any) -> Hostile:
    """An order that is named after its case."""
    return Hostile(name, what, order(name, **changes), end, says)


def order_id(name: str, partition: int, partitions: int) -> str:
    """An order number that begins so and whose partition is this one."""
    return next(found for n in count() if partition_of((found := f"{name}-{n}").encode(), partitions) == partition)
