"""The store on PostgreSQL: inventory's orders per second with one database transaction for a batch, beside one for each order.

The one rule: both do all of inventory's work (decode, look up, reserve, inbox, encode) on a server of their own that writes to
disk at each commit; only Kafka is left out. Once for orders of five lines, and once for orders that all want the same one sku.
"""

import itertools
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec

from streams.postgres import LocalPostgres
from tests.bench.ground import some_orders
from tests.bench.store import sell
from tests.bench.throughput import by_turns, ratio

_BATCH: Final = 500
_TARGET: Final = 5.0


def measure(_: Any, *, quick: bool) -> dict[str, Any]:
    """By turns, each in a database of its own."""
    count, rounds = (500, 1) if quick else (2000, 2)
    many = list(some_orders(count, "store-"))
    hot = [msgspec.structs.replace(order, lines=(msgspec.structs.replace(order.lines[0], sku="hot"),)) for order in many]
    numbers = itertools.count()
    with TemporaryDirectory(prefix="towpath-bench-") as folder, LocalPostgres.start(Path(folder) / "data") as server:

        def run(orders: list[Any], batch: int) -> Callable[[], float]:
            return lambda: sell(server.create(f"bench_{next(numbers)}"), orders, batch)

        found = {
            what: by_turns({"a batch": run(orders, _BATCH), "one by one": run(orders, 1)}, rounds)
            for what, orders in (("five lines", many), ("one hot sku", hot))
        }
    return {
        "what": __doc__,
        "orders": count,
        "batch": _BATCH,
        "orders/s": found,
        "ratios": {what: ratio(speeds["a batch"], speeds["one by one"]) for what, speeds in found.items()},
        "target": _TARGET,
    }
