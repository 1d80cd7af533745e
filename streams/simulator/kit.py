"""What all runs of one workload share: its codec, its topics, its tables; made once per process.

The one rule: nothing in here knows of any run.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from streams.codec import Codec
from streams.dead import Case
from streams.memory.broker import Clock, MemoryBroker
from streams.receipts import Receipt
from streams.record import event_info
from streams.registry import FolderRegistry, Registry
from streams.simulator.disk import Disk
from streams.simulator.workload import Workload
from streams.stage import Store
from streams.topics import plan

E = TypeVar("E")
SESSION_TIMEOUT = 20.0
"""Seconds after which a frozen worker is out of its group."""
TRANSACTION_TIMEOUT = 15.0


class Kit:
    """A workload, ready to be run. Raises `SetupError` for a topology whose classes and schemas differ."""

    def __init__(self, workload: Workload) -> None:
        topology = workload.topology
        self.workload = workload
        self.topology = topology
        self.codec: Codec = _Codec(
            (*topology.by_topic.values(), *topology.events, Case, Receipt), FolderRegistry(topology.schemas)
        )
        stores: dict[int, Store[Any]] = {id(stage.store.tables): stage.store for stage in topology.stages if stage.store}
        self.disk = Disk(stores.values())
        self._topics = plan(topology)
        readers: dict[str, set[str]] = {}
        for stage in topology.stages:
            for topic in stage.topics:
                readers.setdefault(topic, set()).add(stage.name)
        self.readers = readers
        self.after = {  # whom a stage's commit may give something to do, itself included
            stage.name: frozenset({stage.name}.union(*(readers.get(event_info(cls).topic, ()) for cls in stage.emits)))
            for stage in topology.stages
        }

    def broker(self, clock: Clock) -> MemoryBroker:
        """A new broker with the topology's topics."""
        broker = MemoryBroker(clock, session_timeout=SESSION_TIMEOUT, transaction_timeout=TRANSACTION_TIMEOUT)
        for spec in self._topics:
            broker.create_topic(spec.name, spec.partitions, spec.config)
        return broker


class _Codec(Codec):
    """Compiles each reader and writer once: a run has a dozen workers, a campaign thousands of runs."""

    def __init__(self, events: tuple[type, ...], registry: Registry) -> None:
        super().__init__(tuple(dict.fromkeys(events)), registry)
        self._readers: dict[type, Callable[[bytes | None], Any]] = {}
        self._writers: dict[type, Callable[[Any], bytes]] = {}

    def decoder(self, cls: type[E]) -> Callable[[bytes | None], E]:
        """See `Codec`."""
        if cls not in self._readers:
            self._readers[cls] = super().decoder(cls)
        return self._readers[cls]

    def encoder(self, cls: type[E]) -> Callable[[E], bytes]:
        """See `Codec`."""
        if cls not in self._writers:
            self._writers[cls] = super().encoder(cls)
        return self._writers[cls]
