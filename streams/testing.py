"""Your flow without a broker: a topology on a broker in memory, by a clock that the test owns.

The one rule: it is the real machine (engine, lanes, codec, store) on a double of Kafka alone, and it moves only when told to.

    def test_a_busy_provider_is_asked_again() -> None:
        with Simulation(orders, ports={psp: Busy(times=2)}) as flow:
            flow.produce(order)
            flow.run(seconds=5)
            assert len(flow.outputs(PaymentCaptured)) == 1
"""

import asyncio
import tempfile
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self, TypeVar

from streams import migrate, names
from streams.codec import Codec
from streams.config import Settings
from streams.dead import Case, DeadLetters
from streams.engine import Engine
from streams.errors import Fenced
from streams.memory.session import Crashed, ManualClock, MemoryBroker, MemorySession
from streams.parked import Parked, parse
from streams.process import Processor
from streams.receipts import Receipt, Receipts
from streams.record import Headers, Record, event_info
from streams.registry import FolderRegistry
from streams.session import Inputs, Polled
from streams.stage import Port, Stage
from streams.store import Inbox
from streams.topics import plan
from streams.topology import Topology

_ROUNDS: Final = 10_000
_QUIET: Final = 3  # rounds in which nothing comes: a partition changes hands in two

E = TypeVar("E")
T = TypeVar("T")


class Simulation:
    """A topology at work in memory; a context manager.

    `stages` are started with one worker each (default: all); `ports` takes the place of what a port would connect to; a
    store is a fresh SQLite file unless `settings` name one. A dead worker's partitions are free after `session_timeout`
    seconds of the clock. `broker` and `clock` may be used directly: to write bad bytes, or to order faults.
    """

    def __init__(
        self,
        topology: Topology,
        *,
        stages: Sequence[str] | None = None,
        ports: Mapping[Port[Any], Any] = MappingProxyType({}),
        settings: Settings | None = None,
        session_timeout: float = 45.0,
    ) -> None:
        self.topology = topology
        self.clock = ManualClock()
        self.broker = MemoryBroker(self.clock, session_timeout=session_timeout)
        self.workers: list[SimulatedWorker] = []
        self._codec = _codec(topology)
        self._ports = ports
        self._step = session_timeout / 3
        self._folder = tempfile.TemporaryDirectory(prefix="towpath-")
        self._settings = settings or Settings(store=f"sqlite:///{Path(self._folder.name) / 'store.db'}")
        self._runner = asyncio.Runner()
        for spec in plan(topology):
            self.broker.create_topic(spec.name, spec.partitions, spec.config)
        try:
            for name in [stage.name for stage in topology.stages] if stages is None else stages:
                self.start(name)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop all workers and let go of everything. A second call does nothing."""
        for worker in list(self.workers):
            worker.close()
        self._runner.close()
        self._folder.cleanup()

    # -- what a test does -----------------------------------------------------------------------------------------------

    def start(self, stage: str, instance: str = "a") -> "SimulatedWorker":
        """One more worker of a stage. It fences a living one of the same instance, as a restart does."""
        worker = SimulatedWorker(self, self.topology.stage(stage), instance)
        self.workers.append(worker)
        return worker

    def produce(self, event: Any, headers: Headers = ()) -> Record:
        """Publish an event to its topic. Raises `EncodeError` for one that its schema cannot hold."""
        info = event_info(type(event))
        key = str(getattr(event, info.key)).encode()
        return self.broker.produce(info.topic, key, self._codec.encoder(type(event))(event), headers)

    def run(self, seconds: float = 0.0) -> None:
        """Let all workers work until nothing is left to do, then for so many seconds of the clock. Takes no time itself."""
        end = self.clock.now() + seconds
        while True:
            self._settle()
            now = self.clock.now()
            if now >= end:
                return
            wake = min((worker.wake for worker in self.workers), default=end)
            self.clock.advance(min(end, wake, now + self._step) - now)

    # -- what a test looks at -------------------------------------------------------------------------------------------

    def outputs(self, event: type[E]) -> list[E]:
        """All events on a class's topic that a read_committed reader sees, in order within each partition."""
        decode = _decoder(self._codec, event)  # type: ignore[arg-type]  # a class is hashable, a type variable need not be
        return [decode(record.value) for record in self.broker.read(event_info(event).topic)]

    def letters(self, stage: str) -> list[Record]:
        """The dead letters of a stage; `streams.dead.original` gives back the record."""
        return self.broker.read(names.dlq(self.topology.name, stage))

    def cases(self) -> list[Case]:
        """Every case as it stands now."""
        decode = _decoder(self._codec, Case)
        found = [decode(record.value) for record in self.broker.read(names.cases(self.topology.name))]
        return list({case.case_id: case for case in found}.values())

    def parked(self, stage: str) -> list[Parked]:
        """What waits at a stage, as its retry topic says."""
        table = self.broker.read(names.retry(self.topology.name, stage))
        last = {record.key: parse(record)[1] for record in table}
        return [parked for parked in last.values() if parked is not None]

    def receipts(self, stage: str) -> list[Receipt]:
        """The receipts of a stage, in the order of its transactions."""
        decode = _decoder(self._codec, Receipt)
        found = [decode(record.value) for record in self.broker.read(names.receipts(self.topology.name))]
        return [receipt for receipt in found if receipt.stage == stage]

    # -- within ---------------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        quiet = 0
        for _ in range(_ROUNDS):
            busy = [worker.cycle() for worker in list(self.workers)]
            quiet = 0 if any(busy) else quiet + 1
            if quiet == _QUIET:
                return
        raise RuntimeError(f"there is still something to do after {_ROUNDS} rounds")

    def _await(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(coroutine)


class SimulatedWorker:
    """One instance of one stage. `ended` says why it works no more: `crashed`, `closed` or what fenced it."""

    def __init__(self, flow: Simulation, stage: Stage, instance: str) -> None:
        self.stage = stage
        self.instance = instance
        self.ended = ""
        self._flow = flow
        self._resources = AsyncExitStack()
        name = flow.topology.name
        table = names.retry(name, stage.name)
        self.session = _Session(
            flow.broker,
            Inputs(stage.topics[0], stage.topics[1:], table),
            group=names.group(name, stage.name),
            transactional_id=names.transactional_id(name, stage.name, instance),
        )
        self.engine = Engine(
            stage,
            self.session,
            Processor(stage, flow._codec, flow._await(self._open_ports())),
            table,
            DeadLetters(name, stage.name, flow._codec, who=f"{stage.name}/{instance}"),
            Receipts(name, stage.name, flow._codec, instance=instance, version="test"),
            effects=self._open_store(),
            clock=flow.clock.now,
            block=_in_place,
        )

    def cycle(self) -> bool:
        """Poll once, and handle what that brought or what is due. Whether there was anything."""
        records = self.poll()
        if self.ended or not (records or self.engine.due()):
            return self.session.brought
        self.handle(records)
        return True

    def poll(self) -> list[Record]:
        """Read on. Between this and `handle` the test may let time pass: then the worker was frozen."""
        return self._do(self.engine.poll) or []

    def handle(self, records: Sequence[Record]) -> None:
        """One transaction of what `poll` gave."""
        self._do(lambda: self.engine.handle(records))

    def crash(self) -> None:
        """Die without a word."""
        self._end("crashed")

    def close(self) -> None:
        """Stop in good order."""
        try:
            self.session.close()
        except Crashed:  # a fault that the test has ordered
            self._end("crashed")
        self._end("closed")

    @property
    def wake(self) -> float:
        """When it has something to do without a new record, in seconds since the Unix epoch."""
        hold = self.engine.gate.hold
        return hold.probe if hold else self.engine.lanes.next_due()

    def _do(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T | None:
        if self.ended:
            return None
        try:
            return self._flow._await(call())
        except Fenced as error:
            self._end(str(error))
        except Crashed:
            self._end("crashed")
        except BaseExceptionGroup as group:  # from asynchronous handlers
            if group.split(Crashed)[1] is not None:
                raise
            self._end("crashed")
        return None

    def _end(self, reason: str) -> None:
        if not self.ended:
            self.ended = reason
            self._flow.workers.remove(self)
            self._flow._await(self._resources.aclose())

    async def _open_ports(self) -> dict[Any, Any]:
        opened: dict[Any, Any] = {}
        for port in self.stage.ports:
            if port in self._flow._ports:
                opened[port] = self._flow._ports[port]
                continue
            manager = port.connect(self._flow._settings)
            if isinstance(manager, AbstractAsyncContextManager):
                opened[port] = await self._resources.enter_async_context(manager)
            else:
                opened[port] = self._resources.enter_context(manager)
        return opened

    def _open_store(self) -> Inbox | None:
        if self.stage.store is None:
            return None
        url, group = self._flow._settings.store, names.group(self._flow.topology.name, self.stage.name)
        migrate.upgrade(url, [self.stage.store])
        inbox = Inbox(url, group, self.stage.store, time_limit=self.stage.time_limit)
        inbox.open()
        self._resources.callback(inbox.close)
        return inbox


class _Session(MemorySession):
    """Remembers whether its last poll brought anything."""

    brought = False

    def poll(self, limit: int, timeout: float) -> Polled:
        polled = super().poll(limit, timeout)
        self.brought = bool(polled.records or polled.table or polled.gained or polled.lost)
        return polled


@lru_cache(maxsize=16)
def _codec(topology: Topology) -> Codec:
    """Checked once, not in every test."""
    return Codec((*topology.by_topic.values(), Case, Receipt), FolderRegistry(topology.schemas))


@lru_cache(maxsize=256)
def _decoder(codec: Codec, event: Any) -> Callable[[bytes | None], Any]:
    """Compiled once."""
    return codec.decoder(event)


async def _in_place(call: Callable[..., T], /, *arguments: Any) -> T:
    return call(*arguments)
