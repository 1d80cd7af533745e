"""Which record kills its process: found in three deaths, whoever else is there; and nobody is suspected for nothing."""

import pytest

from streams.deaths import RUN, Deaths
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
    assert deaths.marker(record(1)) is None
    assert not deaths.forgettable(10**9)


def test_one_death_is_noted_and_slows_nothing_either() -> None:
    deaths = owner(RUN)
    assert deaths.pending == {0: "deaths=1"}
    assert not deaths.careful


def test_after_two_deaths_the_record_at_hand_is_named_and_the_third_condemns_it() -> None:
    second = owner("deaths=1")
    assert second.careful
    assert second.pending == {}
    marker = second.marker(record(7))
    assert marker == "deaths=2 at=t[0]@7"
    third = owner(marker)
    assert third.condemned == {"t[0]@7"}
    assert third.marker(record(7)) is None, "it is not run: there is nothing to be found out"
    third.buried("t[0]@7")
    assert third.condemned == frozenset(), "redriven, it is run again"


def test_a_death_on_another_record_is_the_first_on_that_one() -> None:
    third = owner("deaths=2 at=t[0]@7")
    assert third.marker(record(8)) == "deaths=0 at=t[0]@8"
    fourth = owner("deaths=0 at=t[0]@8")
    assert fourth.condemned == frozenset()
    assert fourth.marker(record(8)) == "deaths=1 at=t[0]@8"


def test_careful_work_ends_when_all_that_the_dead_could_have_had_is_through() -> None:
    deaths = owner("deaths=1", batch=3)
    for offset in range(3):
        assert deaths.careful
        assert deaths.marker(record(offset))
        deaths.through(record(offset))
    assert not deaths.careful


def test_only_the_partitions_of_the_dead_are_marked() -> None:
    deaths = owner("deaths=1")
    deaths.gained(1, "", 1000.0)
    assert deaths.marker(record(5, partition=1)) is None
    deaths.lost(0)
    assert not deaths.careful


@pytest.mark.parametrize("metadata", ["deaths=1", "deaths=0 at=t[0]@8", RUN])
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
