"""A whole topology at work in memory: its workers, its broker, its database, its clock, and the faults that befall them.

The one rule: nothing happens but by a call, and the same calls do the same.
"""

from collections import Counter
from random import Random
from typing import Any, Final

from streams.errors import SetupError
from streams.memory.session import Crashed, ManualClock
from streams.record import Record, event_info
from streams.simulator.disk import Link, LostConnection
from streams.simulator.kit import SESSION_TIMEOUT, TRANSACTION_TIMEOUT, Kit
from streams.simulator.loop import VirtualLoop
from streams.simulator.worker import AT_WORK, Stopped, Worker
from streams.stage import Port, Stage

_PAUSE: Final = 1.0  # seconds until a supervisor starts a process again
_STEPS: Final = 8_000  # that a run may take to its end once everything is healed
_LIVES: Final = 200  # processes that may end meanwhile


class Slot:
    """A place for one process of a stage, with a stable instance name. `traps` are faults that wait for a point."""

    def __init__(self, machine: "Machine", stage: Stage, number: int) -> None:
        self.stage = stage
        self.instance = str(number)
        self.name = f"{stage.name}/{number}"
        self.worker: Worker | None = None
        self.skew = 0.0
        self.again = 0.0  # when its supervisor starts it, in seconds of the clock
        self.traps: dict[str, tuple[str, float]] = {}  # by point: crash, freeze or stop, and seconds
        self.sql: list[tuple[str, int, float]] = []  # crash or lose, statements from now, seconds
        self._machine = machine

    def now(self) -> float:
        """The time by this process's clock."""
        return self._machine.clock.now() + self.skew

    def arrive(self, worker: Worker) -> None:
        """A worker has come to a point: spring what is laid there. Raises what ends it."""
        trap = self.traps.pop(worker.point, None)
        if trap is None:
            return
        what, seconds = trap
        if what == "freeze":
            worker.frozen = self._machine.clock.now() + seconds
            self._machine.haunt(seconds)
            self._machine.log(f"{self.name} is frozen at {worker.point!r}")
            return
        self.again = self._machine.clock.now() + seconds
        if what == "stop":
            worker.session.close()
            raise Stopped
        raise Crashed


class Machine:
    """One run. `news` counts, per stage, what may give its workers something to do; `broken` is what no process may die of."""

    def __init__(self, kit: Kit, trace: list[str] | None = None) -> None:
        self.kit = kit
        self.clock = ManualClock()
        self.loop = VirtualLoop(self.clock)  # type: ignore[abstract]  # it has what coroutines need, and no sockets
        self.broker = kit.broker(self.clock)
        self.link: Link = kit.disk.fresh(None)
        self.world = kit.workload.world(self.clock)
        self.news: Counter[str] = Counter({stage.name: 0 for stage in kit.topology.stages})
        self.given: list[tuple[Worker, list[Record]]] = []
        self.timers: set[str] = set()
        self.broken: list[BaseException | None] = []
        self.workers: list[Worker] = []
        self.slots: dict[str, Slot] = {}
        self.away = 0.0  # until when the database is, in seconds of the clock
        self.steps = self.ended = self.moves = 0
        self._haunted = 0.0  # until when something of the dead may still come to an end
        self._trace = trace
        with kit.disk.engine.begin() as connection:
            self.world.prepare(connection)
        self.link.watch = self._watch
        for stage in kit.topology.stages:
            for number in range(kit.workload.workers):
                self.start(f"{stage.name}/{number}")

    def log(self, text: str) -> None:
        """A line of the trace, if anybody wants it."""
        if self._trace is not None:
            self._trace.append(f"{self.clock.now() - 1_700_000_000.0:8.1f} s  {text}")

    def port(self, port: Port[Any]) -> Any:
        """What takes the place of a port's other side."""
        try:
            return self.world.ports[port]
        except KeyError:
            fix = "add a double for it to the `ports` of the workload's world"
            raise SetupError(
                f"the workload has nothing for port {port.name!r}", where=self.kit.topology.name, fix=fix
            ) from None

    # -- processes ------------------------------------------------------------------------------------------------------

    def start(self, name: str) -> Worker:
        """A new process in a slot. One that is there already goes on beside it, with the same instance name."""
        slot = self.slots.get(name)
        if slot is None:
            stage, number = name.split("/")
            slot = self.slots[name] = Slot(self, self.kit.topology.stage(stage), int(number))
        slot.again = 0.0
        slot.worker = worker = Worker(slot, self)
        self.workers.append(worker)
        self.news[slot.stage.name] += 1
        self.loop.run()
        return worker

    def gone(self, worker: Worker) -> None:
        """A worker has ended: its supervisor will start it again."""
        self.log(f"{worker.name} {worker.ended}")
        self.ended += 1
        self.haunt()
        self.workers.remove(worker)
        self.news[worker.stage.name] += 1
        slot = worker.slot
        if slot.worker is worker:
            slot.worker = None
            slot.again = max(slot.again, self.clock.now() + _PAUSE)

    def tell(self, worker: Worker) -> None:
        """A transaction has gone on: whoever reads what it writes should look."""
        self.moves += 1
        for stage in self.kit.after[worker.stage.name]:
            self.news[stage] += 1

    def tell_all(self) -> None:
        """Everybody should look."""
        for stage in self.news:
            self.news[stage] += 1

    def haunt(self, seconds: float = 0.0) -> None:
        """Somebody will be away for so long: for some time after it, groups and transactions find out."""
        self._haunted = max(self._haunted, self.clock.now() + seconds + SESSION_TIMEOUT + TRANSACTION_TIMEOUT)

    def publish(self, events: Any) -> int:
        """Send events as producers do, outside any transaction."""
        count = 0
        for event in events:
            info = event_info(type(event))
            key = str(getattr(event, info.key)).encode()
            self.broker.produce(info.topic, key, self.kit.codec.encoder(type(event))(event))
            for stage in self.kit.readers.get(info.topic, ()):
                self.news[stage] += 1
            count += 1
        return count

    # -- time -----------------------------------------------------------------------------------------------------------

    def step(self, random: Random) -> bool:
        """Let one of those that have something to do go one step. Whether anybody had."""
        now = self.clock.now()
        ready = [worker for worker in self.workers if worker.ready(now)]
        if not ready:
            return False
        worker = ready[int(random.random() * len(ready))]
        worker.careful = random.random() < 0.1
        self._go(worker)
        return True

    def _go(self, worker: Worker) -> None:
        self.steps += 1
        if self._trace is not None:
            self.log(f"{worker.name} goes on from {worker.point!r}")
        worker.go()

    @property
    def wake(self) -> float:
        """When the next thing happens by itself, in seconds of the clock; infinite if nothing does."""
        now = self.clock.now()
        wakes = [worker.wake for worker in self.workers]
        wakes += [slot.again for slot in self.slots.values() if slot.worker is None and slot.again]
        return max(now, min((self.loop.wake, *wakes)))

    def advance(self, seconds: float, *, alive: bool = True) -> None:
        """Let time pass. Who is not frozen stays in its group, unless the clock has jumped (`alive` is false)."""
        haunted = self.clock.now() <= self._haunted
        self.clock.advance(seconds)
        now = self.clock.now()
        if not alive:
            self.haunt()
        else:
            for worker in self.workers:
                if worker.frozen <= now:
                    worker.session.beat()
        self.loop.run()
        for slot in list(self.slots.values()):
            if slot.worker is None and slot.again and slot.again <= now:
                self.start(slot.name)
        if haunted or not alive:
            self.tell_all()

    def work(self, steps: int, random: Random) -> None:
        """So many steps; where nobody has anything to do, time passes until somebody has."""
        for _ in range(steps):
            if not self.step(random):
                wake, now = self.wake, self.clock.now()
                if wake == float("inf") and now > self._haunted:
                    return
                self.advance(min(wake - now, SESSION_TIMEOUT / 2))  # what the dead have left behind is free in a while

    def wait(self, seconds: float) -> None:
        """Let time pass in which nobody does anything, but all are alive."""
        end = self.clock.now() + seconds
        while (left := end - self.clock.now()) > 0:
            self.advance(min(left, SESSION_TIMEOUT / 2))

    # -- the end --------------------------------------------------------------------------------------------------------

    def heal(self) -> None:
        """From now on nothing goes wrong."""
        self.log("everything heals")
        self.ended = self.steps = 0
        self.broker.forget_faults()
        self.world.heal()
        self.away = 0.0
        for slot in self.slots.values():
            slot.traps.clear()
            slot.sql.clear()
            slot.skew = 0.0
        for worker in self.workers:
            worker.frozen = 0.0
            worker.careful = False

    def settle(self) -> bool:
        """Let everybody work until nothing is left to do. Whether that came to an end."""
        quiet = 0
        while quiet < 2:
            moves = self.moves
            while self._round():
                pass
            quiet = 0 if moves != self.moves else quiet + 1
            if self.steps > _STEPS or self.ended > _LIVES:
                return False
            wake = self.wake
            # Where nobody waits for anything: what the dead have left behind is free when their time is over.
            self.advance(wake - self.clock.now() if wake < float("inf") else SESSION_TIMEOUT + TRANSACTION_TIMEOUT)
            quiet = quiet if wake == float("inf") else 0
        return True

    def _round(self) -> bool:
        if self.steps > _STEPS or self.ended > _LIVES:
            return False
        now = self.clock.now()
        ready = [worker for worker in self.workers if worker.ready(now)]
        for worker in ready:
            if not worker.ended:
                self._go(worker)
        return bool(ready)

    # -- the database ---------------------------------------------------------------------------------------------------

    def _watch(self, when: str, link: Link) -> None:
        """Spring what is laid for the database's statements. Raises what comes of it."""
        worker = AT_WORK.get()
        if worker is None:
            return
        if worker.doomed:
            raise Crashed
        if self.clock.now() < self.away:
            link.lose()
        sql = worker.slot.sql
        for trap in list(sql) if sql else ():
            what, left, seconds = trap
            sql.remove(trap)
            if what in ("before", "after"):  # the next commit
                if when != ("commit" if what == "before" else "committed"):
                    sql.append(trap)
                    continue
            elif when == "committed" and what == "lose":
                sql.append(trap)
                continue
            elif left > 1:
                sql.append((what, left - 1, seconds))
                continue
            self.log(f"{worker.name}: {what} at a {when} of the database")
            if what == "crash":
                worker.doomed = True
                worker.slot.again = self.clock.now() + seconds
                raise Crashed
            if what == "after":
                raise LostConnection("disk I/O error")
            link.lose()
