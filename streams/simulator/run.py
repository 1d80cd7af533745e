"""One run: its schedule, then the healing, then the judgement.

The one rule: a run follows from its workload and its schedule; whoever plays the same schedule gets the same findings.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from random import Random
from types import MappingProxyType
from typing import Final

import msgspec

from streams import names
from streams.dead import State
from streams.errors import Fenced
from streams.memory.session import Crashed
from streams.simulator.desk import SimulatedDesk
from streams.simulator.judge import Finding, judge
from streams.simulator.kit import Kit
from streams.simulator.machine import Machine, Slot
from streams.simulator.schedule import Action, Schedule

_REDRIVES: Final = 2  # of each open case, once everything is healed


class Report(msgspec.Struct, frozen=True):
    """What came of a run. `events` were sent by producers; `findings` is empty if all is as it should be."""

    seed: int
    events: int
    steps: int
    findings: tuple[Finding, ...] = ()
    trace: tuple[str, ...] = ()


def play(kit: Kit, schedule: Schedule, *, trace: bool = False) -> Report:
    """Play a schedule to its end. With `trace` the report says what everybody did."""
    lines: list[str] = []
    machine = Machine(kit, lines if trace else None)
    events = steps = 0
    for action in schedule.actions:
        machine.log(f"* {action}")
        events += _DO[action.what](machine, action)
    steps = machine.steps
    machine.heal()
    settled = machine.settle()
    for _ in range(_REDRIVES if settled else 0):
        if not _redrive(machine, 2**31):
            break
        settled = settled and machine.settle()
    findings = judge(machine, settled=settled)
    steps += machine.steps
    for worker in list(machine.workers):
        worker.kill("over")
    return Report(schedule.seed, events, steps, tuple(findings), tuple(lines))


# -- actions ------------------------------------------------------------------------------------------------------------


def _produce(machine: Machine, action: Action) -> int:
    return machine.publish(machine.world.produce(Random(action.seed), action.number))  # noqa: S311  # repeatable


def _work(machine: Machine, action: Action) -> int:
    machine.work(action.number, Random(action.seed))  # noqa: S311
    return 0


def _wait(machine: Machine, action: Action) -> int:
    machine.wait(action.seconds)
    return 0


def _trap(machine: Machine, action: Action) -> int:
    """A fault for the next time that a worker comes to a point; at once if it stands there."""
    slot = _slot(machine, action)
    worker = slot.worker
    point = action.point or "poll"
    if worker is None:
        return 0
    if action.what == "crash" and worker.point == point and worker.gate is not None:
        slot.again = machine.clock.now() + action.seconds
        worker.kill()
    elif action.what == "freeze" and worker.point == point:
        worker.frozen = machine.clock.now() + action.seconds
        machine.haunt(action.seconds)
    else:
        slot.traps[point] = (action.what, action.seconds)
    return 0


def _sql(machine: Machine, action: Action) -> int:
    what = {"crash-sql": "crash", "lose-sql": "lose", "lose-commit": action.point}[action.what]
    _slot(machine, action).sql.append((what, action.number, action.seconds))
    return 0


def _transaction(machine: Machine, action: Action) -> int:
    stage, instance = action.who.split("/")
    name = names.transactional_id(machine.kit.topology.name, stage, instance)
    if action.what == "abort":
        machine.broker.abort_next(name)
    else:
        machine.broker.lose_reply_next(name, happened=action.point == "after")
    return 0


def _start(machine: Machine, action: Action) -> int:
    machine.start(action.who)
    return 0


def _skew(machine: Machine, action: Action) -> int:
    _slot(machine, action).skew = action.seconds
    machine.tell_all()
    return 0


def _jump(machine: Machine, action: Action) -> int:
    machine.advance(action.seconds, alive=False)
    return 0


def _trouble(machine: Machine, action: Action) -> int:
    machine.log(machine.world.trouble(Random(action.seed)))  # noqa: S311
    return 0


def _away(machine: Machine, action: Action) -> int:
    machine.away = machine.clock.now() + action.seconds
    return 0


def _compact(machine: Machine, action: Action) -> int:
    """Kafka keeps a tombstone for a day: whoever reads on has read it before it goes."""
    topology = machine.kit.topology.name
    machine.broker.compact(names.cases(topology))
    for stage in machine.kit.topology.stages:
        table = names.retry(topology, stage.name)
        stable = [log.stable for log in machine.broker.logs(table)]
        readers = [worker.session for worker in machine.workers if worker.stage is stage]
        read = all(session.reads_table_from(number) >= at for session in readers for number, at in enumerate(stable))
        machine.broker.compact(table, drop_tombstones=bool(action.point) and read)
    return 0


def _decide(machine: Machine, action: Action) -> int:
    random = Random(action.seed)  # noqa: S311
    with suppress(Fenced, Crashed):
        if action.what == "redrive":
            if random.random() < 0.3:
                machine.broker.crash_next(names.cases_operator(machine.kit.topology.name), committed=random.random() < 0.5)
            _redrive(machine, action.number)
        else:
            _dismiss(machine)
    machine.tell_all()
    return 0


def _redrive(machine: Machine, most: int) -> int:
    """How many were redriven."""
    desk = SimulatedDesk(machine.broker, machine.kit.topology, machine.kit.codec)
    fit = [case for case in desk.book.cases.values() if case.state is State.OPEN]
    done = [step.good for step in desk.redrive(fit[:most])] if fit else []
    machine.tell_all()
    return sum(done)


def _dismiss(machine: Machine) -> None:
    """A case that nobody can mend: rejected, redriven, and rejected again."""
    desk = SimulatedDesk(machine.broker, machine.kit.topology, machine.kit.codec)
    fit = [case for case in desk.book.cases.values() if case.state is State.OPEN and case.verdict == "reject"]
    hopeless = [case for case in fit if any(step.what == "redriven" for step in case.decisions)]
    for _ in desk.dismiss(hopeless[:1]):
        pass


def _slot(machine: Machine, action: Action) -> Slot:
    """The slot that is meant; of an extra worker that has not joined, the stage's first."""
    return machine.slots.get(action.who) or machine.slots[f"{action.who.split('/')[0]}/0"]


_DO: Final[Mapping[str, Callable[[Machine, Action], int]]] = MappingProxyType(
    {
        "produce": _produce,
        "work": _work,
        "wait": _wait,
        "crash": _trap,
        "freeze": _trap,
        "stop": _trap,
        "crash-sql": _sql,
        "lose-sql": _sql,
        "lose-commit": _sql,
        "abort": _transaction,
        "lose-reply": _transaction,
        "twin": _start,
        "join": _start,
        "skew": _skew,
        "jump": _jump,
        "trouble": _trouble,
        "away": _away,
        "compact": _compact,
        "redrive": _decide,
        "dismiss": _decide,
    }
)
