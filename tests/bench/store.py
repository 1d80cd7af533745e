"""The store: inventory's orders per second with one database transaction for a batch, beside one for each order.

The one rule: both do all of inventory's work (decode, look up, reserve five lines, inbox, encode) on a SQLite file that
survives a power cut; only Kafka is left out.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec

from streams import migrate, names
from streams.codec import Codec
from streams.config import Settings
from streams.dead import Case, DeadLetters
from streams.engine import _drive
from streams.lanes import Lanes
from streams.process import Processor, Verdict
from streams.record import Record, event_info
from streams.registry import FolderRegistry
from streams.store import Inbox
from streams.work import Crew, Work
from tests.bench.ground import some_orders
from tests.bench.throughput import by_turns, ratio
from topologies.orders import orders as flow
from topologies.orders.events import OrderAccepted, OrderSubmitted
from topologies.orders.intake import judge
from topologies.orders.inventory import deadline
from topologies.orders.seed import seed

_BATCH: Final = 500


def measure(_: Any, *, quick: bool) -> dict[str, Any]:
    """By turns."""
    records, rounds = (500, 1) if quick else (2000, 2)
    found = by_turns({"a batch": lambda: _speed(records, _BATCH), "one by one": lambda: _speed(records, 1)}, rounds)
    return {
        "what": __doc__,
        "orders": records,
        "batch": _BATCH,
        "orders/s": found,
        "ratio": ratio(found["a batch"], found["one by one"]),
    }


def _speed(count: int, batch: int) -> float:
    with TemporaryDirectory(prefix="towpath-bench-") as folder:
        return sell(f"sqlite:///{Path(folder) / 'store.db'}", list(some_orders(count, "store-")), batch)


def sell(url: str, orders: Sequence[OrderSubmitted], batch: int) -> float:
    """Orders per second that inventory reserves stock for in an empty database."""
    stage = flow.stage("inventory")
    codec = Codec((*stage.events, Case), FolderRegistry(flow.schemas))
    records = _records(codec, orders)
    migrate.upgrade(url, migrate.stores(flow))
    seed(Settings(store=url), [msgspec.to_builtins(order) for order in orders], short=0)
    assert stage.store is not None
    inbox = Inbox(url, names.group(flow.name, stage.name), stage.store)
    inbox.open()
    crew = Crew(
        stage, Processor(stage, codec, {deadline: 900.0}), DeadLetters(flow.name, stage.name, codec, who="bench"), inbox
    )
    lanes = Lanes("table", "token")
    lanes.gained(0)
    began = time.monotonic()
    for start in range(0, len(records), batch):
        work = Work(crew, lanes.cycle(time.time()))
        _drive(work.run([], records[start : start + batch]))
        assert work.verdicts == {Verdict.DONE: len(records[start : start + batch])}
    seconds = time.monotonic() - began
    inbox.close()
    return len(records) / seconds


def _records(codec: Codec, orders: Sequence[Any]) -> list[Record]:
    info, encode = event_info(OrderAccepted), codec.encoder(OrderAccepted)
    accepted = [verdict for order in orders if isinstance(verdict := judge(order), OrderAccepted)]
    return [Record(info.topic, 0, offset, order.order_id.encode(), encode(order)) for offset, order in enumerate(accepted)]
