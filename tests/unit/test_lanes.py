"""Lanes by example: what the laws in tests/property do not say."""

import pytest

from streams.lanes import HELD, Lanes
from streams.parked import BY, Parked, place
from streams.record import Output, Record
from streams.stage import Backoff

TABLE = "t.retry"


def record(offset: int, key: bytes | None = b"k", topic: str = "in") -> Record:
    return Record(topic, 0, offset, key, b"v", (), 1000 + offset)


def written(output: Output) -> Record:
    return Record(TABLE, output.partition or 0, 0, output.key, output.value, output.headers)


def lanes_of(*parked: Parked, order: str = "key") -> Lanes:
    lanes = Lanes(TABLE, "me", order)  # type: ignore[arg-type]  # one of the two words
    for each in parked:
        lanes.load(written(each.output(TABLE, "another")))
    lanes.gained(0)
    return lanes


def test_a_delay_doubles_up_to_its_ceiling_and_varies_by_less_than_a_quarter() -> None:
    backoff = Backoff(attempts=99, first=0.5, ceiling=60.0)
    for attempt, full in ((1, 0.5), (2, 1.0), (5, 8.0), (8, 60.0), (5000, 60.0)):
        waits = {backoff.delay(attempt, f"event-{number}") for number in range(200)}
        assert 0.75 * full < min(waits)
        assert max(waits) <= full
        assert len(waits) > 190, "events that failed together do not come back together"
    assert backoff.delay(3, "e") == backoff.delay(3, "e")


def test_a_record_without_a_key_keeps_nobody_waiting() -> None:
    lanes = lanes_of()
    cycle = lanes.cycle(0.0)
    cycle.park(Parked(record(1, None), 0, due=5.0))
    assert not cycle.blocks(record(2, None))
    cycle.apply()
    assert not lanes.cycle(0.0).blocks(record(2, None))


def test_records_of_all_inputs_share_the_lane_of_their_key() -> None:
    lanes = lanes_of(Parked(record(1, topic="in"), 0, due=9.0))
    assert lanes.cycle(0.0).blocks(record(1, topic="other"))
    assert not lanes.cycle(0.0).blocks(record(2, b"another"))


def test_the_longest_waiting_lane_goes_first() -> None:
    lanes = lanes_of(*[Parked(record(n, b"k%d" % n), n, due=float(10 - n)) for n in range(5)])
    assert lanes.cycle(8.0).due(10) == [(0, b"k4"), (0, b"k3"), (0, b"k2")]
    assert lanes.next_due() == 6.0


def test_a_held_head_is_never_due_until_an_operator_redrives_it() -> None:
    lanes = lanes_of(Parked(record(1), 0, due=HELD, case=b"c"), Parked(record(2), 1))
    assert lanes.next_due() == HELD
    assert lanes.cycle(1e12).due(10) == []
    lanes.load(written(Parked(record(1), -1, case=b"c2").output(TABLE, "op")))
    assert lanes.next_due() == 0
    head = lanes.cycle(1.0).head((0, b"k"))
    assert head is not None
    assert (head.record.offset, head.case) == (1, b"c2")


def test_a_dismissed_head_frees_its_followers() -> None:
    lanes = lanes_of(Parked(record(1), 0, due=HELD, case=b"c"), Parked(record(2), 1))
    lanes.load(written(Output(TABLE, place(record(1)), None, ((BY, b"op"),), 0)))
    assert lanes.cycle(1.0).due(10) == [(0, b"k")]
    assert lanes.parked()[0][0] == 1


def test_redriven_records_go_before_what_waits_the_older_first() -> None:
    lanes = lanes_of(Parked(record(9), 4, due=50.0))
    for offset in (3, 1):
        lanes.load(written(Parked(record(offset), -1, case=b"c").output(TABLE, "op")))
    cycle = lanes.cycle(60.0)
    seen = []
    while (head := cycle.head((0, b"k"))) is not None:
        seen.append(head.record.offset)
        cycle.complete((0, b"k"))
    assert seen == [1, 3, 9]


def test_own_writes_that_come_back_are_known_and_another_owners_of_before_are_taken() -> None:
    lanes = lanes_of()
    stale = Parked(record(1), 0, due=5.0)
    lanes.load(written(stale.output(TABLE, "me")))
    assert lanes.parked()[0] == (0, 0), "mirrored when it was applied, and maybe through by now"
    lanes.lost(0)
    lanes.load(written(stale.output(TABLE, "me")))
    lanes.gained(0)
    assert lanes.parked()[0][0] == 1, "while restoring everything counts, whoever wrote it"


def test_a_lost_partition_is_forgotten() -> None:
    lanes = lanes_of(Parked(record(1), 0, due=5.0))
    lanes.lost(0)
    assert list(lanes) == []
    assert lanes.next_due() == HELD


def test_nothing_is_due_in_a_partition_that_is_not_restored() -> None:
    lanes = Lanes(TABLE, "me")
    lanes.load(written(Parked(record(1), 0, due=0.0).output(TABLE, "another")))
    assert lanes.next_due() == HELD
    assert lanes.cycle(9.0).due(10) == []


def test_completing_what_is_not_there_is_a_defect_that_is_told() -> None:
    with pytest.raises(ValueError, match="empty"):
        lanes_of().cycle(0.0).complete((0, b"k"))
