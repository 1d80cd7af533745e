"""The codec: an order of five lines decoded and encoded, beside fastavro with msgspec for the class.

The one rule: both give the same event and the same bytes, by the processor's time of this thread, each at its best of seven.
"""

import io
import time
import timeit
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import fastavro
import msgspec

from streams.codec import Codec
from streams.registry import FolderRegistry
from tests.bench.ground import some_orders
from topologies.orders import orders as flow
from topologies.orders.events import OrderSubmitted

_HEAD: Final = 5  # bytes of the wire format before the body


def measure(_: Any, *, quick: bool) -> dict[str, Any]:
    """Microseconds of each."""
    calls = 2000 if quick else 20_000
    (order,) = some_orders(1, "codec-")
    codec = Codec([OrderSubmitted], FolderRegistry(flow.schemas))
    encode, decode = codec.encoder(OrderSubmitted), codec.decoder(OrderSubmitted)
    newest = max((flow.schemas / "orders" / "OrderSubmitted").glob("v*.avsc"))
    schema = fastavro.parse_schema(msgspec.json.decode(newest.read_bytes()))
    value = encode(order)

    def plain_decode() -> Any:
        return msgspec.convert(fastavro.schemaless_reader(io.BytesIO(value[_HEAD:]), schema, None), OrderSubmitted)

    def plain_encode() -> bytes:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, schema, msgspec.to_builtins(order, builtin_types=(datetime,)))
        return out.getvalue()

    assert plain_decode() == decode(value)
    assert plain_encode() == value[_HEAD:]
    micros = {
        "decode": {"towpath": _time(lambda: decode(value), calls), "fastavro + msgspec": _time(plain_decode, calls)},
        "encode": {"towpath": _time(lambda: encode(order), calls), "fastavro + msgspec": _time(plain_encode, calls)},
    }
    ratios = {what: found["fastavro + msgspec"] / found["towpath"] for what, found in micros.items()}
    return {"what": __doc__, "microseconds": micros, "times as fast": ratios}


def _time(call: Callable[[], Any], calls: int) -> float:
    return min(timeit.repeat(call, number=calls, repeat=7, timer=time.thread_time)) / calls * 1e6
