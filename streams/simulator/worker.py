"""One simulated process of one stage: the real engine on a session in memory, stopped at every point where a process can be.

The one rule: it goes no step unless the scheduler opens its gate, and when it is killed it does nothing more at all.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any, Final, TypeVar

from streams import names
from streams.dead import DeadLetters
from streams.engine import Engine
from streams.errors import Fenced
from streams.memory.session import Crashed, MemorySession
from streams.process import Processor
from streams.receipts import Receipts
from streams.record import Output
from streams.session import Inputs, Place, Polled
from streams.store import Inbox

if TYPE_CHECKING:
    from streams.simulator.machine import Machine, Slot

T = TypeVar("T")
AT_WORK: Final[ContextVar["Worker | None"]] = ContextVar("towpath_simulated", default=None)
"""The worker whose code is running."""
_NEVER: Final = float("-inf")


class Stopped(Exception):
    """The process has ended in good order."""


class Worker:
    """A process in a slot. `point` is where it stands; `gate` is there when it may be let on; `ended` says why it is gone."""

    def __init__(self, slot: "Slot", machine: "Machine") -> None:
        self.slot = slot
        self.stage = slot.stage
        self.name = slot.name
        self.point = ""
        self.gate: asyncio.Future[None] | None = None
        self.frozen = 0.0  # until when, in seconds of the clock
        self.seen = -1  # the stage's news when it last found nothing
        self.careful = False  # stop in the middle of transactions too
        self.doomed = False
        self.ended = ""
        self._machine = machine
        self._news = machine.news
        self._asked, self._due = _NEVER, False  # when its engine was asked whether anything is due, and what it said
        self.session = _Session(self, machine)
        self.engine = _engine(self, machine)
        context = Context()
        context.run(AT_WORK.set, self)
        self._task = machine.loop.create_task(self._live(), context=context)
        self._task.add_done_callback(self._done)

    def ready(self, now: float) -> bool:
        """Whether there is something for it to do."""
        if self.gate is None or self.frozen > now:
            return False
        if self.point != "poll" or self.seen != self._news[self.stage.name]:
            return True
        now += self.slot.skew
        if self._asked != now:  # it says the same again while neither it nor its clock goes on
            self._asked, self._due = now, self.engine.due()
        return self._due

    def go(self) -> None:
        """One step: to its next point, or to where it waits for something else."""
        if self.gate is not None:
            gate, self.gate = self.gate, None
            gate.set_result(None)
            self._machine.loop.run()

    def kill(self, why: str = "crashed") -> None:
        """Die without a word: whatever it was about to do, it does not."""
        if not self.ended:
            self._end(why)
            self._task.cancel()
            self._machine.loop.run()

    @property
    def wake(self) -> float:
        """When it has something to do without news, in seconds of the simulation's clock."""
        if self.gate is None or self.point != "poll":
            return self.frozen if self.frozen > self._machine.clock.now() else float("inf")
        hold = self.engine.gate.hold
        return max(self.frozen, (hold.probe if hold else self.engine.lanes.next_due()) - self.slot.skew)

    # -- within ---------------------------------------------------------------------------------------------------------

    async def _live(self) -> None:
        while True:
            records = await self.engine.poll()
            if records or self.engine.due():
                await self._at("handle")
                await self.engine.handle(records)

    async def _at(self, point: str) -> None:
        """Stand here until the gate opens, unless a fault is meant for this point."""
        if self.doomed or self.ended:
            raise Crashed
        self.point = point
        self._asked = _NEVER
        self.slot.arrive(self)
        self.gate = self._machine.loop.create_future()
        await self.gate

    async def block(self, call: Callable[..., T], /, *arguments: Any) -> T:
        """What the engine calls where a process waits for its broker: the places where things go wrong between two."""
        if call == self.session.commit:
            await self._at("commit")
            for point in self.session.committing(*arguments):
                self._machine.tell(self)
                if self.careful or self.slot.traps:
                    await self._at(point)
            self._machine.tell(self)
            return None  # type: ignore[return-value]  # as the commit does
        if call == self.session.poll:
            await self._at("poll")
            self.seen = self._machine.news[self.stage.name]
        result = call(*arguments)
        if self.doomed:
            raise Crashed
        return result

    def _done(self, task: "asyncio.Task[None]") -> None:
        if self.ended or task.cancelled():
            return
        error = task.exception()
        if isinstance(error, BaseExceptionGroup) and error.split(Crashed)[1] is None:  # of asynchronous handlers
            error = Crashed()
        if isinstance(error, Fenced):
            self._end(f"fenced: {error}")
            self.session.close()
        elif isinstance(error, Stopped):
            self._end("stopped")
        elif isinstance(error, Crashed):
            self._end("crashed")
        else:
            self._end(f"died of {error!r}")
            self._machine.broken.append(error)

    def _end(self, why: str) -> None:
        self.ended = why
        self.gate = None
        self._machine.gone(self)


class _Session(MemorySession):
    """Notes what its worker was given, for the history, and that there is news, for the scheduler."""

    def __init__(self, worker: Worker, machine: "Machine") -> None:
        topology, stage = machine.kit.topology.name, worker.stage
        self._worker = worker
        self._machine = machine
        self._timers = bool(stage.timers)
        self._table = names.retry(topology, stage.name)
        super().__init__(
            machine.broker,
            Inputs(stage.topics[0], stage.topics[1:], self._table),
            group=names.group(topology, stage.name),
            transactional_id=names.transactional_id(topology, stage.name, worker.slot.instance),
        )

    def poll(self, limit: int, timeout: float) -> Polled:
        """See `MemorySession`."""
        polled = super().poll(limit, timeout)
        if polled.records:
            self._machine.given.append((self._worker, polled.records))
        if polled.records or polled.table or polled.gained or polled.lost:
            self._machine.news[self._worker.stage.name] += 1
            self._machine.moves += 1
        return polled

    def committing(self, outputs: Sequence[Output], offsets: Mapping[Place, int], metadata: str = "") -> Iterator[str]:
        """See `MemorySession`."""
        if self._timers:
            self._machine.timers.update(_timers(outputs, self._table))
        return super().committing(outputs, offsets, metadata)


def _timers(outputs: Sequence[Output], table: str) -> Iterator[str]:
    """The ids of what a stage sends itself for later: on the table, and from no place of a topic."""
    for output in outputs:
        if output.topic == table and b"/-" in (output.key or b"") and output.value is not None:
            yield next(((value or b"").decode() for name, value in output.headers if name == "id"), "")


def _engine(worker: Worker, machine: "Machine") -> Engine:
    """As `streams.worker` puts it together."""
    kit, stage = machine.kit, worker.stage
    name, instance = kit.topology.name, worker.slot.instance
    ports = {port: machine.port(port) for port in stage.ports}
    inbox = None
    if stage.store is not None:
        inbox = Inbox(kit.disk.engine, names.group(name, stage.name), stage.store, time_limit=stage.time_limit)
    return Engine(
        stage,
        worker.session,
        Processor(stage, kit.codec, ports),
        names.retry(name, stage.name),
        DeadLetters(name, stage.name, kit.codec, who=f"{stage.name}/{instance}"),
        Receipts(name, stage.name, kit.codec, instance=instance, version="simulated"),
        effects=inbox,
        clock=worker.slot.now,
        block=worker.block,
    )
