"""Testing a flow without a broker: what a simulation promises to whoever writes a topology."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from streams import names
from streams.dead import State
from streams.errors import EncodeError
from streams.testing import Simulation
from tests.support.moves import Answered, Asked, World, make, start, world
from tests.unit.test_orders_intake import PLACED
from topologies.orders import orders
from topologies.orders.events import NotificationSent, OrderRejected, OrderSubmitted, StockRejected


def numbers(flow: Simulation) -> list[int]:
    return [answer.number for answer in flow.outputs(Answered)]


def test_an_event_goes_through_all_stages_of_a_topology() -> None:
    order = OrderSubmitted("o1", "c1", "s1", PLACED, "USD", ())
    with Simulation(orders) as flow:
        flow.produce(order)
        flow.run()
        assert [event.order_id for event in flow.outputs(OrderRejected)] == ["o1"]
        assert len(flow.outputs(NotificationSent)) == 1
        assert flow.outputs(StockRejected) == []


def test_time_passes_only_when_the_test_lets_it() -> None:
    with start() as flow:
        flow.produce(Asked("k", 1, ("wait:5",)))
        flow.run(seconds=4.9)
        assert numbers(flow) == []
        assert [parked.attempt for parked in flow.parked("play")] == [1]
        flow.run(seconds=0.2)
        assert numbers(flow) == [1]
        assert flow.parked("play") == []


def test_an_attempt_is_made_when_it_is_due_and_not_at_the_end_of_the_run() -> None:
    at = World()
    with start(at=at) as flow:
        began = flow.clock.now()
        flow.produce(Asked("k", 1, ("wait:5", "wait:30")))
        flow.run(seconds=100)
        assert [now - began for _, _, now in at.attempts] == pytest.approx([0, 5, 35], abs=0.01)


def test_a_port_is_replaced_by_what_the_test_gives() -> None:
    at = World()
    at.away = True
    with start(at=at) as flow:
        flow.produce(Asked("k", 1))
        flow.run(seconds=60)
        assert numbers(flow) == []
        at.away = False
        flow.run(seconds=15)
        assert numbers(flow) == [1]


def test_two_workers_share_the_work_and_one_dead_is_replaced_by_the_other() -> None:
    with start(workers=2) as flow:
        flow.run()
        assert [sorted(worker.engine.gate.partitions) for worker in flow.workers] == [[0], [1]]
        dead = flow.workers[0]
        dead.crash()
        for number in range(10):
            flow.produce(Asked(f"k{number}", number))
        flow.run()
        assert len(numbers(flow)) < 10
        flow.run(seconds=11)
        assert sorted(numbers(flow)) == list(range(10))
        assert dead.ended == "crashed"


def test_a_dead_event_has_a_letter_and_a_case() -> None:
    with start() as flow:
        flow.produce(Asked("k", 1, ("reject",)))
        flow.run()
        assert [letter.key for letter in flow.letters("play")] == [b"k"]
        assert [case.state for case in flow.cases()] == [State.OPEN]


def test_a_restart_fences_the_living_worker_of_its_instance() -> None:
    with start() as flow:
        old = flow.workers[0]
        flow.run()
        flow.start("play", old.instance)
        flow.produce(Asked("k", 1))
        flow.run(seconds=11)
        assert "newer producer" in old.ended
        assert numbers(flow) == [1]


def test_each_simulation_begins_with_nothing() -> None:
    for _ in range(2):
        with start() as flow:
            flow.produce(Asked("k", 1))
            flow.run()
            assert numbers(flow) == [1]


def test_an_event_that_its_schema_cannot_hold_is_told_to_whoever_produces_it() -> None:
    with start() as flow, pytest.raises(EncodeError, match="number"):
        flow.produce(Asked("k", 2**63))


def test_a_port_that_is_not_replaced_is_opened_and_closed_with_the_worker() -> None:
    closed: list[str] = []

    @contextmanager
    def connect(_: object) -> Iterator[World]:
        yield World()
        closed.append("world")

    topology = make()
    connected = world.connect
    world.connect = connect
    try:
        with Simulation(topology) as flow:
            flow.produce(Asked("k", 1))
            flow.run()
            assert numbers(flow) == [1]
            assert closed == []
        assert closed == ["world"]
    finally:
        world.connect = connected


def test_a_crash_that_was_ordered_may_come_as_a_worker_stops() -> None:
    with start() as flow:
        flow.produce(Asked("k", 1))
        flow.run()
        flow.broker.crash_next(names.transactional_id("moves", "play", "a"))
        worker = flow.workers[0]
        worker.close()
        assert worker.ended == "crashed"
        flow.start("play")
        flow.produce(Asked("k", 2))
        flow.run(seconds=26)
        assert numbers(flow) == [1, 2]
