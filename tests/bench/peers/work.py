"""The work of every peer: what the stage `checking` of `tests.bench.flow` does, written as one writes it without Towpath.

The one rule: all peers do the same: read an order, check it, add up its lines, write another event under headers of its own.
Avro by fastavro, ids by a hash of where the record was read, so that whoever reads twice makes no second event.
"""

import io
import json
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import fastavro

BATCH: Final = 2000
"""Records of a transaction: as many as a stage of Towpath takes."""
_SCHEMAS: Final = Path(__file__).parents[3] / "schemas"
_ACCEPTED_ID: Final = 2
_HEAD: Final = b"\0" + _ACCEPTED_ID.to_bytes(4)
_CURRENCIES: Final = frozenset({"USD", "EUR", "GBP", "JPY"})
_LARGEST: Final = 2**63 - 1


def _schema(record: str) -> Any:
    return fastavro.parse_schema(json.loads((_SCHEMAS / "orders" / record / "v1.avsc").read_text()))


_SUBMITTED: Final = _schema("OrderSubmitted")
_ACCEPTED: Final = _schema("OrderAccepted")


def check(value: bytes) -> tuple[bytes, bytes]:
    """The key and the value of what comes of an order. Raises `ValueError` for one that is in no order."""
    order: Any = fastavro.schemaless_reader(io.BytesIO(value[5:]), _SUBMITTED, None)
    if not (order["order_id"].strip() and order["customer_id"].strip() and order["currency"] in _CURRENCIES and order["lines"]):
        raise ValueError("no order")
    quantities: dict[str, int] = {}
    called: dict[str, str] = {}
    total = 0
    for line in order["lines"]:
        if not line["sku"].strip() or line["quantity"] <= 0 or line["amount_minor"] <= 0:
            raise ValueError("no line of an order")
        quantities[line["sku"]] = quantities.get(line["sku"], 0) + line["quantity"]
        called.setdefault(line["sku"], line["name"].strip())
        total += line["amount_minor"]
    if total > _LARGEST:
        raise ValueError("too much")
    accepted = {
        "order_id": order["order_id"],
        "customer_id": order["customer_id"],
        "store_id": order["store_id"],
        "placed_at": order["placed_at"],
        "currency": order["currency"],
        "total_minor": total,
        "demand": [{"sku": sku, "name": called[sku], "quantity": quantity} for sku, quantity in quantities.items()],
    }
    out = io.BytesIO()
    out.write(_HEAD)
    fastavro.schemaless_writer(out, _ACCEPTED, accepted)
    return order["order_id"].encode(), out.getvalue()


def headers(topic: str, partition: int, offset: int, given: Any) -> list[tuple[str, bytes]]:
    """Those of the output: its id and its cause's, and all others as they came."""
    cause = _digest(f"{topic}/{partition}/{offset}")
    through = [(name, value) for name, value in given or () if name not in ("id", "cause")]
    return [("id", _digest(f"{cause}/checking/0").encode()), ("cause", cause.encode()), *through]


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()
