"""Which record kills its process: found in three deaths, whoever else is there; and nobody is suspected for nothing."""

import msgspec
import pytest

from streams import names
from streams.deaths import RUN, Deaths
from streams.parked import Parked, tombstone
from streams.record import Record
from streams.testing import Simulation
from tests.support import moves
from tests.support.moves import Answered, Asked


def record(offset: int, partition: int = 0) -> Record:
    return Record("t", partition, offset, b"k", b"v")


def owner(metadata: str, batch: int = 3) -> Deaths:
    """The next owner of partition 0."""
    deaths = Deaths(batch)
    deaths.gained(0, metadata, 1000.0)
    return deaths


def test_nothing_is_slowed_where_nobody_has_died() -> None:
    deaths = owner("")
    assert deaths.pending == {0: RUN}
    assert not deaths.careful
    assert deaths.markers([record(1)]) == {}
    assert not deaths.forgettable(10**9)


def test_each_death_narrows_down_what_the_next_looks_at_and_the_third_condemns() -> None:
    records = [record(offset) for offset in range(16)]
    second = owner(RUN, batch=16)
    assert second.careful
    assert second.pending == {}
    group = second.group(records)
    assert group == records[:4]
    assert second.markers(group) == {0: "deaths=1"}
    third = owner("deaths=1", batch=16)
    group = third.group(records)
    assert group == records[:1]
    assert third.markers(group) == {0: "deaths=2 at=t[0]@0"}
    fourth = owner("deaths=2 at=t[0]@0", batch=16)
    assert fourth.condemned == {"t[0]@0"}
    fourth.buried("t[0]@0")
    assert fourth.condemned == frozenset(), "redriven, it is run again"


def test_a_condemned_record_goes_alone_and_its_marker_stays_until_it_is_dead() -> None:
    records = [record(offset) for offset in range(16)]
    deaths = owner("deaths=2 at=t[0]@2", batch=16)
    assert deaths.group(records) == records[:2]
    alone = deaths.group(records[2:])
    assert alone == records[2:3]
    assert deaths.markers(alone) == {}, "who dies now has not died of it"
    assert deaths.group(records[3:]) == records[3:7]


@pytest.mark.parametrize(("metadata", "hands"), [(RUN, 16), ("deaths=1", 4)])
def test_careful_work_ends_when_all_that_the_dead_could_have_had_is_through(metadata: str, hands: int) -> None:
    deaths = owner(metadata, batch=16)
    for offset in range(hands):
        assert deaths.careful
        deaths.through([record(offset)])
    assert not deaths.careful
    assert len(deaths.group([record(offset) for offset in range(99)])) == 99


def test_only_the_partitions_of_the_dead_are_marked() -> None:
    deaths = owner(RUN, batch=16)
    deaths.gained(1, "", 1000.0)
    assert deaths.markers([record(5, partition=1), record(5)]) == {0: "deaths=1"}
    deaths.lost(0)
    assert not deaths.careful


@pytest.mark.parametrize("metadata", ["deaths=1", "deaths=2 at=t[0]@8", RUN])
def test_who_lives_for_a_minute_has_not_died_of_what_was_there(metadata: str) -> None:
    deaths = owner(metadata)
    assert not deaths.forgettable(1059.0)
    deaths.forget(1059.0)
    assert deaths.pending != {0: RUN}
    assert deaths.forgettable(1060.0)
    deaths.forget(1060.0)
    assert deaths.pending == {0: RUN}
    assert not deaths.careful
    assert not deaths.forgettable(10**9)


@pytest.mark.parametrize("metadata", ["deaths=", "deaths=x at=t[0]@1", "somebody else's", "deaths=²"])
def test_metadata_that_is_none_of_ours_is_one_death_at_most(metadata: str) -> None:
    assert owner(metadata).condemned == frozenset()


def restart(flow: Simulation) -> None:
    for worker in list(flow.workers):
        worker.crash()
    flow.start("play", "a")


def test_a_record_that_dies_with_its_process_is_dead_after_three_deaths_and_no_other_is() -> None:
    with moves.start() as flow:
        for number in range(10):
            flow.produce(Asked("abcd"[number % 4], number, ("die",) if number == 5 else ()))
        deaths = 0
        flow.run()
        while not flow.workers:
            deaths += 1
            assert deaths < 10
            flow.start("play", "a")
            flow.run(seconds=15)
        assert deaths == 3
        assert [(case.key, case.verdict, case.state) for case in flow.cases()] == [(b"b", "crashed", "open")]
        assert sorted(answer.number for answer in flow.outputs(Answered)) == [0, 1, 2, 3, 4, 6, 7, 8, 9]


def test_deaths_with_quiet_hours_between_them_are_nobodys() -> None:
    with moves.start() as flow:
        for number in range(2):
            flow.produce(Asked("a", number))
            flow.run(seconds=3600)
            restart(flow)
        flow.run(seconds=3600)
        flow.produce(Asked("d", 7, ("die",)))
        flow.run()
        assert flow.workers == []
        flow.start("play", "a")
        flow.run(seconds=3600)
        assert flow.workers == [], "it has died of this record once more"
        assert flow.cases() == []


def test_who_is_killed_by_others_at_every_start_condemns_nobody() -> None:
    with moves.start() as flow:
        flow.run()
        for number in range(6):
            flow.produce(Asked("abcd"[number % 4], number))
            restart(flow)  # its partitions are its own, and it has not come to a marker
        flow.run(seconds=3600)
        assert sorted(answer.number for answer in flow.outputs(Answered)) == [0, 1, 2, 3, 4, 5]
        assert flow.cases() == []


def test_what_waits_for_a_dependency_is_not_through_and_is_looked_at_as_closely_when_it_is_back() -> None:
    at = moves.World()
    with moves.start(moves.make(batch=4), at) as flow:
        flow.produce(Asked("a", 0))
        flow.run()
        restart(flow)
        at.away = True
        for number in range(8):
            flow.produce(Asked("a", number))
        flow.run(seconds=15)
        waiting = flow.parked("play")[0].record
        assert flow.workers[0].engine._deaths.markers([waiting]) == {waiting.partition: "deaths=1"}


def test_who_waits_for_a_dependency_after_a_death_goes_on_when_nothing_is_left_to_ask_it_with() -> None:
    """Found by the simulator: it span on a probe that it never made, and took nothing in."""
    at = moves.World()
    with moves.start(moves.make(), at) as flow:
        flow.produce(Asked("a", 0))
        flow.run()
        restart(flow)
        at.away = True
        record = flow.produce(Asked("a", 1))
        flow.run(seconds=15)
        operator = tombstone(Parked(record, 0), names.retry("moves", "play"), "operator")
        flow.broker.produce(*msgspec.structs.astuple(operator))
        at.away = False
        flow.produce(Asked("b", 2))
        flow.run(seconds=15)
        assert [answer.number for answer in flow.outputs(Answered)] == [0, 2]
