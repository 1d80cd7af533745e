"""Stock for a set of orders, such that a known share of them comes up short.

The one rule: which orders come up short does not depend on the order in which they are handled.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

import msgspec

from streams.config import Settings
from streams.errors import SetupError
from streams.store import Inbox
from topologies.orders.events import Demand, OrderAccepted, OrderSubmitted
from topologies.orders.intake import judge
from topologies.orders.money import LARGEST
from topologies.orders.stock import stock


class Seeded(msgspec.Struct, frozen=True):
    """What was put in stock, and what is to be expected of the orders: `short` are the ids that inventory will reject."""

    orders: int
    accepted: int
    rejected: int
    skus: int
    units: int
    short: tuple[str, ...]


def seed(settings: Settings, orders: Iterable[Mapping[str, Any]], short: float = 0.05) -> Seeded:
    """Put into the stock at `settings.store` what these orders need, less one of a sku for a share of them.

    An order is made to come up short through a sku that it alone wants, so that no other order is affected; there may be
    fewer of these than asked for. Orders that intake rejects need no stock. Run it once, after `towpath db upgrade` and
    before the orders are submitted.
    Raises `SetupError` for an order that is none, or a database that cannot be opened.
    """
    if not 0 <= short <= 1:
        raise SetupError(f"{short!r} is no share of orders", where="short", fix="use a number from 0 to 1")
    count = 0
    demands: dict[str, tuple[Demand, ...]] = {}
    for count, order in enumerate(orders, 1):
        verdict = judge(_submitted(order, count))
        if isinstance(verdict, OrderAccepted):
            demands.setdefault(verdict.order_id, verdict.demand)
    free: Counter[str] = Counter()
    for demand in demands.values():
        for line in demand:
            free[line.sku] += line.quantity
    lonely = _lonely(demands, round(short * len(demands)))
    free.subtract(lonely.values())
    levels = {sku: min(units, LARGEST) for sku, units in free.items()}
    _restock(settings.store, levels)
    return Seeded(count, len(demands), count - len(demands), len(levels), sum(levels.values()), tuple(lonely))


def _lonely(demands: Mapping[str, tuple[Demand, ...]], wanted: int) -> dict[str, str]:
    """So many orders, picked by a hash of their ids, and of each a sku that no other order wants."""
    wanting = Counter(line.sku for demand in demands.values() for line in demand)
    found: dict[str, str] = {}
    for order_id in sorted(demands, key=lambda order_id: sha256(f"short {order_id}".encode()).digest()):
        if len(found) == wanted:
            break
        sku = next((line.sku for line in demands[order_id] if wanting[line.sku] == 1), None)
        if sku is not None:
            found[order_id] = sku
    return found


def _submitted(order: Mapping[str, Any], number: int) -> OrderSubmitted:
    try:
        return msgspec.convert(order, OrderSubmitted)
    except msgspec.ValidationError as error:
        raise SetupError(f"this is no order: {error}", where=f"order {number}", fix="mend it or leave it out") from None


def _restock(url: str, levels: Mapping[str, int]) -> None:
    inbox = Inbox(url, "seed", stock)
    inbox.open()
    try:
        with inbox.batch([], 0.0) as journal:
            journal.repository.restock(levels)
    finally:
        inbox.close()
