"""The gate: what is read, and what is not, while a dependency is away or too much is parked."""

from collections.abc import Iterable

from streams.gate import Gate
from streams.lanes import Lanes
from streams.parked import Parked
from streams.process import Failure
from streams.record import Record
from streams.stage import Stage

AWAY = Failure("Unavailable", "no route", "f", dependency="psp")


class Paused:
    """The one thing of a session that a gate uses."""

    def __init__(self) -> None:
        self.now: set[int] = set()

    def pause(self, partitions: Iterable[int]) -> None:
        self.now |= set(partitions)

    def resume(self, partitions: Iterable[int]) -> None:
        self.now -= set(partitions)


def gate_of(*partitions: int, max_parked: int = 10) -> tuple[Gate, Paused]:
    session = Paused()
    gate = Gate(Stage("s", max_parked=max_parked), session)  # type: ignore[arg-type]  # no more of it is used
    for partition in partitions:
        gate.gained(partition)
    return gate, session


def lanes_with(count: int, partition: int = 0, *, restored: bool = True) -> Lanes:
    lanes = Lanes("t", "me")
    for offset in range(count):
        output = Parked(Record("in", partition, offset, b"k", b"v"), offset, due=9e9).output("t", "x")
        lanes.load(Record("t", partition, offset, output.key, output.value, output.headers))
    if restored:
        lanes.gained(partition)
    return lanes


def test_a_held_stage_reads_nothing_and_asks_less_and_less_often() -> None:
    gate, session = gate_of(0, 1)
    now, waits = 100.0, []
    for _ in range(9):
        gate.shut(AWAY, now)
        assert gate.hold is not None
        waits.append(round(gate.hold.probe - now, 3))
        now = gate.hold.probe
    assert waits == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0, 10.0]
    assert session.now == {0, 1}
    assert gate.hold is not None
    assert (gate.hold.dependency, gate.hold.since) == ("psp", 100.0)
    gate.open()
    assert session.now == set()
    gate.shut(AWAY, now)
    assert gate.hold.probe == now + 0.2, "the next outage begins anew"


def test_a_dependency_may_say_when_to_ask_again() -> None:
    gate, _ = gate_of(0)
    gate.shut(Failure("Unavailable", "busy", "f", after=30.0, dependency="psp"), 100.0)
    assert gate.hold is not None
    assert gate.hold.probe == 130.0


def test_a_partition_that_comes_to_a_held_stage_waits_with_it() -> None:
    gate, session = gate_of(0)
    gate.shut(AWAY, 0.0)
    gate.gained(1)
    assert session.now == {0, 1}
    gate.open()
    assert session.now == set()


def test_a_partition_with_too_much_parked_is_read_on_when_a_tenth_is_through() -> None:
    gate, session = gate_of(0, 1)
    gate.measure(lanes_with(10))
    assert session.now == gate.full == {0}
    gate.measure(lanes_with(9))
    assert session.now == {0}, "not yet: else it would flutter"
    gate.measure(lanes_with(8))
    assert session.now == gate.full == set()


def test_bytes_count_as_well_as_records() -> None:
    session = Paused()
    gate = Gate(Stage("s", max_parked_bytes=2000), session)  # type: ignore[arg-type]  # as above
    gate.gained(0)
    gate.measure(lanes_with(3))
    assert session.now == {0}


def test_a_full_partition_stays_shut_when_the_dependency_is_back_and_the_other_way_round() -> None:
    gate, session = gate_of(0, 1)
    gate.measure(lanes_with(10))
    gate.shut(AWAY, 0.0)
    gate.open()
    assert session.now == {0}
    gate.shut(AWAY, 0.0)
    gate.measure(lanes_with(1))
    assert session.now == {0, 1}, "there is room, but nobody to answer"
    gate.open()
    assert session.now == set()


def test_a_partition_is_not_measured_while_it_is_restored() -> None:
    gate, session = gate_of(1)
    gate.measure(lanes_with(10, restored=False))
    assert session.now == set(), "its tombstones may still come"


def test_a_lost_partition_leaves_no_trace() -> None:
    gate, _ = gate_of(0)
    gate.measure(lanes_with(10))
    gate.lost(0)
    assert (gate.partitions, gate.full) == (set(), set())
