"""The cycle by example: order, holding, probing, aborting, dying; each on the real engine and a broker in memory."""

import pytest

from streams import names
from streams.dead import State
from streams.parked import Parked, tombstone
from streams.process import Verdict
from streams.testing import Simulation
from tests.support.moves import Answered, Asked, World, make, start


def redrive(flow: Simulation) -> None:
    """The first that is held, as operators do, and what comes of it."""
    held = flow.parked("play")[0]
    again = Parked(held.record, -1, case=held.case).output(names.retry("moves", "play"), "operator")
    flow.broker.produce(again.topic, again.key, again.value, again.headers, again.partition)
    flow.run()


def numbers(flow: Simulation) -> list[int]:
    return [answer.number for answer in flow.outputs(Answered)]


def test_later_events_of_a_key_wait_and_follow_in_the_cycle_that_frees_them() -> None:
    with start() as flow:
        worker = flow.workers[0]
        for number, moves in enumerate([("wait:5",), (), ()]):
            flow.produce(Asked("k", number, moves))
        flow.run()
        assert [parked.seq for parked in flow.parked("play")] == [0, 1, 2]
        flow.clock.advance(5.1)
        worker.cycle()
        assert numbers(flow) == [0, 1, 2]


def test_other_keys_pass_by_in_the_same_cycle() -> None:
    with start() as flow:
        for number, who in enumerate("aabab"):
            flow.produce(Asked(who, number, ("wait:9",) if number == 0 else ()))
        flow.workers[0].cycle()
        assert sorted(numbers(flow)) == [2, 4]


def test_a_stage_without_order_lets_later_events_pass() -> None:
    with start(make(order="none")) as flow:
        for number, moves in enumerate([("wait:5",), (), ()]):
            flow.produce(Asked("k", number, moves))
        flow.run(seconds=6)
        assert numbers(flow) == [1, 2, 0]


def test_a_key_stays_closed_behind_a_dead_event_where_the_stage_holds() -> None:
    with start(make(after_dead="hold")) as flow:
        flow.produce(Asked("k", 0, ("reject",)))
        flow.produce(Asked("k", 1))
        flow.run(seconds=600)
        assert numbers(flow) == []
        assert len(flow.parked("play")) == 2


def test_attempts_are_spent_then_the_event_is_dead() -> None:
    at = World()
    with start(at=at) as flow:
        flow.produce(Asked("k", 1, ("bug", "retry", "bug")))
        flow.run(seconds=60)
        assert [attempt for _, attempt, _ in at.attempts] == [1, 2, 3]
        case = flow.cases()[0]
        assert (case.attempts, case.verdict, case.error) == (3, "retry", "ZeroDivisionError")


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_dependency_that_is_away_costs_no_attempt_and_nothing_is_read(asynchronous: bool) -> None:
    at = World()
    with start(make(asynchronous=asynchronous, batch=4), at) as flow:
        engine = flow.workers[0].engine
        flow.run()
        at.away = True
        for number in range(20):
            flow.produce(Asked(f"k{number}", number, ("done:1",)))
        flow.run(seconds=30)
        hold = engine.gate.hold
        assert hold is not None
        assert hold.dependency == "world"
        assert flow.clock.now() - hold.since == pytest.approx(30)
        assert len(flow.parked("play")) <= 4, "one batch, then intake is paused"
        assert {parked.attempt for parked in flow.parked("play")} == {0}
        assert engine.totals["unavailable"] < 12, "each probe is one record, and they grow rare"
        at.away = False
        flow.run(seconds=11)
        assert engine.gate.hold is None
        assert sorted(numbers(flow)) == list(range(20))
        assert {attempt for _, attempt, _ in at.attempts} == {1}


def test_while_a_stage_is_held_one_record_is_tried_at_a_time() -> None:
    at = World()
    at.away = True
    with start(at=at) as flow:
        worker = flow.workers[0]
        for number in range(5):
            flow.produce(Asked("k", number))
        worker.cycle()
        at.away = False
        flow.clock.advance(0.3)
        worker.cycle()
        assert numbers(flow) == [0]
        worker.cycle()
        assert numbers(flow) == [0, 1, 2, 3, 4]


def test_an_aborted_transaction_changes_nothing_and_is_done_again() -> None:
    with start() as flow:
        flow.run()
        worker = flow.workers[0]
        flow.produce(Asked("k", 0, ("wait:5",)))
        flow.produce(Asked("k", 1))
        worker.cycle()
        flow.clock.advance(5.1)
        before = list(worker.engine.lanes)
        flow.broker.abort_next(names.transactional_id("moves", "play", "a"))
        worker.cycle()
        assert numbers(flow) == []
        assert list(worker.engine.lanes) == before
        assert worker.engine.totals["aborted"] == 1
        worker.cycle()
        assert numbers(flow) == [0, 1]
        assert worker.engine.totals[Verdict.DONE] == 2, "what was aborted is not counted"


def test_a_due_time_survives_a_restart() -> None:
    with start() as flow:
        flow.produce(Asked("k", 0, ("wait:100",)))
        flow.run()
        flow.workers[0].close()
        flow.start("play", "b")
        flow.run(seconds=99)
        assert numbers(flow) == []
        flow.run(seconds=2)
        assert numbers(flow) == [0]


def test_a_full_partition_is_read_on_when_there_is_room_again() -> None:
    with start(make(batch=2, max_parked=4)) as flow:
        for number in range(12):
            flow.produce(Asked("k", number, ("wait:5",) if number == 0 else ()))
        flow.run()
        assert 4 <= len(flow.parked("play")) < 8
        flow.run(seconds=6)
        assert numbers(flow) == list(range(12))


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_record_that_kills_its_process_is_dead_at_the_third_death_and_takes_no_other_with_it(asynchronous: bool) -> None:
    with start(make(asynchronous=asynchronous), workers=0) as flow:
        for number, moves in enumerate([(), ("die",) * 9, ()]):
            flow.produce(Asked("k", number, moves))
        deaths = 0
        while not flow.letters("play"):
            worker = flow.start("play")
            flow.run(seconds=11)
            deaths += worker.ended == "crashed"
            assert deaths <= 3
        flow.run(seconds=11)
        assert deaths == 3
        assert numbers(flow) == [0, 2]
        assert [(case.verdict, case.offset) for case in flow.cases()] == [("crashed", 1)]


def test_what_killed_its_process_is_run_again_when_it_is_redriven() -> None:
    at = World()
    with start(make(after_dead="hold"), at, workers=0) as flow:
        flow.produce(Asked("k", 1, ("die",) * 9))
        while not flow.letters("play"):
            flow.start("play")
            flow.run(seconds=11)
        at.mended.add(1)
        redrive(flow)
        assert numbers(flow) == [1, 1]


def test_a_partition_that_went_to_another_is_forgotten_with_all_that_is_parked_there() -> None:
    with start() as flow:
        for number in range(8):
            flow.produce(Asked(f"k{number}", number, ("wait:50",)))
        flow.run()
        flow.start("play", "b")
        flow.run()
        first, second = (worker.engine for worker in flow.workers)
        for engine in first, second:
            assert {parked.record.partition for parked in engine.lanes} == engine.gate.partitions
        assert first.gate.partitions | second.gate.partitions == {0, 1}


def test_a_death_between_poll_and_commit_leaves_nothing_behind() -> None:
    with start() as flow:
        flow.produce(Asked("k", 0))
        worker = flow.workers[0]
        records = worker.poll()
        flow.broker.crash_next(names.transactional_id("moves", "play", "a"))
        worker.handle(records)
        assert worker.ended == "crashed"
        flow.start("play")
        flow.run(seconds=11)
        assert numbers(flow) == [0]


def test_a_partition_full_of_what_is_held_is_read_on_when_an_operator_dismisses_it() -> None:
    with start(make(order="none", after_dead="hold", max_parked=3, batch=3)) as flow:
        for number in range(6):
            flow.produce(Asked("k", number, ("reject",) if number < 3 else ()))
        flow.run(seconds=60)
        assert numbers(flow) == []
        for parked in flow.parked("play"):
            gone = tombstone(parked, names.retry("moves", "play"), "operator")
            flow.broker.produce(gone.topic, gone.key, gone.value, gone.headers, gone.partition)
        flow.run()
        assert numbers(flow) == [3, 4, 5]


def test_a_zombie_commits_nothing_not_even_what_was_parked_already() -> None:
    with start() as flow:
        zombie = flow.workers[0]
        flow.produce(Asked("k", 1, ("wait:20",)))
        flow.run()
        flow.start("play", "b")
        zombie.poll()
        flow.clock.advance(21)  # longer than a session: the other takes over, and makes the attempt
        for _ in range(3):
            flow.workers[1].cycle()
        zombie.handle([])
        assert numbers(flow) == [1]
        assert zombie.engine.totals["aborted"] == 1


def test_a_redriven_record_goes_before_what_waits_and_closes_its_case() -> None:
    at = World()
    with start(make(after_dead="hold"), at) as flow:
        flow.produce(Asked("k", 0, ("reject",)))
        flow.produce(Asked("k", 1))
        flow.run()
        at.mended.add(0)
        redrive(flow)
        assert numbers(flow) == [0, 0, 1]
        assert [case.state for case in flow.cases()] == [State.RESOLVED]
