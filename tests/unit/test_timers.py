"""What a stage sends itself for later: due when it said, once, and whatever happens in between."""

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from streams.codec import Codec
from streams.dead import Case
from streams.errors import Retry, SetupError
from streams.record import event
from streams.registry import FolderRegistry
from streams.release import bring_ours, lock_schemas
from streams.simulator.desk import SimulatedDesk
from streams.stage import Backoff, Context, Later, Stage
from streams.testing import Simulation
from streams.topology import Topology


@event("room.booked", key="room")
class Booked(msgspec.Struct, frozen=True):
    room: str
    minutes: int


@event("room.reminder", key="room")
class Reminder(msgspec.Struct, frozen=True):
    room: str


@event("room.freed", key="room")
class Freed(msgspec.Struct, frozen=True):
    room: str
    at: int


def flow(folder: Path, failures: int = 0) -> Topology:
    """A booking frees its room after so many minutes; `failures` attempts to do so fail."""
    for cls in (Booked, Reminder, Freed):
        topic = cls.__dict__["__event__"].topic
        fields = [{"name": name, "type": "string" if name == "room" else "long", "doc": "."} for name in cls.__struct_fields__]
        path = folder / "rooms" / cls.__name__ / "v1.avsc"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"type": "record", "name": cls.__name__, "topic": topic, "doc": ".", "fields": fields}))
    bring_ours(folder)
    lock_schemas(folder)
    rooms = Stage("rooms", retry=Backoff(attempts=5, first=1, ceiling=1))

    @rooms.on
    def book(booked: Booked, ctx: Context) -> Later[Reminder] | None:  # noqa: ARG001  # a handler's signature
        return Later(Reminder(booked.room), 60 * booked.minutes) if booked.minutes else None

    @rooms.on
    def free(reminder: Reminder, ctx: Context) -> Freed:
        if ctx.attempt <= failures:
            raise Retry("not yet")
        return Freed(reminder.room, int(ctx.now))

    return Topology("rooms", sources=[Booked], stages=[rooms], sinks=[Freed], schemas=folder)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Simulation]:
    with Simulation(flow(tmp_path)) as simulation:
        yield simulation


def test_it_is_handled_when_it_is_due_and_not_before(running: Simulation) -> None:
    start = running.clock.now()
    running.produce(Booked("blue", 15))
    running.run(15 * 60 - 1)
    assert running.outputs(Freed) == []
    running.run(2)
    assert running.outputs(Freed) == [Freed("blue", int(start + 15 * 60))]
    assert running.parked("rooms") == []


def test_it_outlives_its_process(running: Simulation) -> None:
    running.produce(Booked("blue", 15))
    running.run(60)
    running.workers[0].crash()
    running.start("rooms", "b")
    running.run(15 * 60)
    assert [freed.room for freed in running.outputs(Freed)] == ["blue"]


def test_its_key_does_not_wait_for_it(running: Simulation) -> None:
    running.produce(Booked("blue", 15))
    running.produce(Booked("blue", 1))
    running.run(61)
    assert len(running.outputs(Freed)) == 1, "the second booking is handled, and due, long before the first"


def test_one_that_fails_is_tried_again(tmp_path: Path) -> None:
    with Simulation(flow(tmp_path, failures=2)) as running:
        running.produce(Booked("blue", 1))
        running.run(70)
        assert len(running.outputs(Freed)) == 1


def test_one_that_died_can_be_redriven(tmp_path: Path) -> None:
    """Found by the simulator: the desk said that the stage does not consume it."""
    topology = flow(tmp_path, failures=5)
    with Simulation(topology) as running:
        running.produce(Booked("blue", 1))
        running.run(70)
        (case,) = running.cases()
        desk = SimulatedDesk(running.broker, topology, Codec([*topology.events, Case], FolderRegistry(tmp_path)))
        assert [step.done for step in desk.redrive([case])] == ["redriven"]


def test_a_timer_that_nobody_handles_is_a_mistake_of_the_declaration(tmp_path: Path) -> None:
    lost = Stage("lost")

    @lost.on
    def book(booked: Booked, ctx: Context) -> Later[Reminder]:  # noqa: ARG001  # a handler's signature
        return Later(Reminder(booked.room), 1)

    with pytest.raises(SetupError, match=r"test_timers\.py:\d+: stage 'lost' sends itself Reminder for later"):
        Topology("rooms", sources=[Booked], stages=[lost], schemas=tmp_path)
