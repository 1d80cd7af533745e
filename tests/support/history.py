"""The order flow at work in memory, and what a replay needs of it afterwards."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from streams import migrate, names
from streams.codec import Codec
from streams.config import Settings
from streams.memory.broker import MemoryBroker
from streams.ops.replay.evidence import Evidence
from streams.ops.replay.judge import Finding, Judge, Kind
from streams.ops.replay.recorded import Recorded
from streams.ops.replay.sandbox import Sandbox
from streams.record import Record, event_info
from streams.registry import FolderRegistry
from streams.snapshot import snapshot
from streams.store import Inbox
from streams.testing import Simulation
from streams.topology import Topology
from tests.unit.test_orders_intake import PLACED
from topologies.orders import orders
from topologies.orders.events import OrderCancelled, OrderLine, OrderSubmitted
from topologies.orders.stock import stock

REGISTRY = FolderRegistry(orders.schemas)
CODEC = Codec(orders.by_topic.values(), REGISTRY)


def submitted(number: int, price: int = 500) -> OrderSubmitted:
    lines = (OrderLine("a", "Apple", 1, price), OrderLine(f"sku-{number % 3}", "Thing", 2, 300))
    return OrderSubmitted(f"o{number}", f"c{number % 5}", "s1", PLACED, "USD", lines)


SKUS = ("a", "sku-0", "sku-1", "sku-2", "Z", "ä", "B")  # no two languages sort these alike


def stocked(url: str, units: int = 30) -> None:
    """So much of each sku is there: a share of the orders comes up short."""
    migrate.upgrade(url, [stock])
    inbox = Inbox(url, "seed", stock)
    inbox.open()
    with inbox.batch([], 0.0) as journal:
        journal.repository.restock(dict.fromkeys(SKUS, units))
    inbox.close()


@contextmanager
def history(folder: Path, count: int = 40, store: str = "") -> Iterator[tuple[Simulation, Settings]]:
    """Many orders through the whole flow: paid, short, declined, cancelled, sent twice, wrong."""
    settings = Settings(
        store=store or f"sqlite:///{folder / 'live.db'}",
        directory=folder,
        variables={"decline_share": "0.2", "notifications": str(folder / "letters.jsonl")},
    )
    stocked(settings.store)
    with Simulation(orders, settings=settings) as flow:
        for number in range(count):
            flow.produce(submitted(number, price=0 if number % 10 == 7 else 500))
            if number % 10 == 3:
                flow.produce(submitted(number))
            flow.run(seconds=1.5)
            if number % 10 == 4:
                flow.produce(OrderCancelled(f"o{number}", "I want it no more.", "customer"))
        flow.run(seconds=1000)
        yield flow, settings


def inputs(broker: MemoryBroker, topology: Topology, stage: str) -> list[Record]:
    return [record for topic in topology.stage(stage).topics for record in broker.read(topic)]


def outputs(broker: MemoryBroker, topology: Topology, stage: str) -> list[Record]:
    return [record for cls in topology.stage(stage).emits for record in broker.read(event_info(cls).topic)]


def replayed(
    settings: Settings, stage: str, records: Iterable[Record], emitted: Iterable[Record], **judge: Any
) -> list[Finding]:
    """What a replay of a stage of the order flow says of these records."""
    found = orders.stage(stage)
    folder = settings.directory / f"replay-{stage}"
    folder.mkdir(exist_ok=True)
    (folder / "evidence.db").unlink(missing_ok=True)
    judging = Judge(REGISTRY, later=frozenset(event_info(cls).topic for cls in found.timers), **judge)
    with Evidence(folder) as evidence, snapshot(settings.store, names.group("orders", stage)) as inbox:
        evidence.add(emitted)
        replay = Recorded(orders, found, Sandbox(found, CODEC, settings), evidence, inbox=inbox if found.store else None)
        return [judging.judge(trial) for trial in replay.run(records)]


def kinds(findings: Iterable[Finding]) -> dict[Kind, int]:
    found: dict[Kind, int] = {}
    for finding in findings:
        found[finding.kind] = found.get(finding.kind, 0) + 1
    return found
