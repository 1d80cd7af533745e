"""The seed: exactly the orders that it names come up short, in whatever order all are handled."""

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streams import migrate
from streams.config import Settings
from streams.errors import SetupError
from streams.store import Inbox
from topologies.orders.events import OrderAccepted, OrderSubmitted
from topologies.orders.intake import judge
from topologies.orders.seed import seed
from topologies.orders.stock import stock


def order(number: int, chance: random.Random) -> dict[str, Any]:
    shared = [str(sku) for sku in chance.sample(range(20), 3)]
    lines = [
        {"sku": sku, "name": "N", "quantity": chance.randint(1, 5), "amount_minor": chance.choice([0, 9, 9, 9, 9, 9])}
        for sku in [*shared, f"own-{number}"]
    ]
    return {
        "order_id": f"o{number}",
        "customer_id": "c",
        "store_id": "s",
        "placed_at": "2017-01-01T11:53:26Z",
        "currency": "USD",
        "lines": lines,
    }


@pytest.mark.parametrize("shuffle", range(3))
def test_the_named_orders_come_up_short_in_any_order(tmp_path: Path, shuffle: int) -> None:
    chance = random.Random(7)
    orders = [order(number, chance) for number in range(200)]
    settings = Settings.load({"TOWPATH_DIR": str(tmp_path)})
    migrate.upgrade(settings.store, [stock])
    seeded = seed(settings, orders, short=0.1)
    assert (seeded.orders, seeded.accepted + seeded.rejected) == (200, 200)
    assert len(seeded.short) == round(seeded.accepted / 10) > 0

    random.Random(shuffle).shuffle(orders)
    verdicts = [judge(msgspec.convert(each, OrderSubmitted)) for each in orders]
    inbox = Inbox(settings.store, "orders.inventory", stock)
    inbox.open()
    with inbox.batch([], 0.0) as journal:
        short = [
            verdict.order_id
            for verdict in verdicts
            if isinstance(verdict, OrderAccepted) and journal.repository.reserve(verdict.order_id, verdict.demand)
        ]
    inbox.close()
    assert sorted(short) == sorted(seeded.short)


def test_what_is_no_order_is_named(tmp_path: Path) -> None:
    good = order(1, random.Random(1))
    with pytest.raises(SetupError, match=r"order 2: this is no order: .*customer_id") as caught:
        seed(Settings.load({"TOWPATH_DIR": str(tmp_path)}), [good, {**good, "customer_id": 5}])
    assert caught.value.fix
