"""What only the memory's broker has: a log cleaner on demand, a clock, and faults. The laws of sessions are in conformance.

The one rule: each test is about something that a user of the double would be misled by.
"""

import pytest

from streams.errors import Aborted, Fenced, SetupError
from streams.memory.group import Group, Membership, UnknownMember
from streams.memory.session import Crashed, ManualClock, MemoryBroker, MemorySession
from streams.record import Output
from streams.session import Inputs

IN = ("in", 0)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def broker(clock: ManualClock) -> MemoryBroker:
    broker = MemoryBroker(clock, session_timeout=30.0, transaction_timeout=10.0)
    broker.create_topic("in")
    broker.create_topic("out")
    broker.create_topic("table", 1, {"cleanup.policy": "compact"})
    for number in range(3):
        broker.produce("in", b"k", b"%d" % number)
    return broker


def session(broker: MemoryBroker, instance: str = "a", inputs: Inputs = Inputs("in")) -> MemorySession:  # noqa: B008  # frozen
    return MemorySession(broker, inputs, group="g", transactional_id=instance)


def rows(broker: MemoryBroker, topic: str) -> list[tuple[int, bytes | None, bytes | None]]:
    return [(record.offset, record.key, record.value) for record in broker.read(topic)]


def test_a_marker_takes_an_offset(broker: MemoryBroker) -> None:
    first = session(broker)
    first.poll(10, 0)
    for number in range(2):
        first.commit([Output("out", b"k", b"%d" % number)], {("in", 0): number})
    assert rows(broker, "out") == [(0, b"k", b"0"), (2, b"k", b"1")]
    assert broker.end_offsets("out") == {0: 4}


def test_records_without_a_key_go_round(broker: MemoryBroker) -> None:
    broker.create_topic("wide", 3)
    assert {broker.produce("wide", None, b"").partition for _ in range(3)} == {0, 1, 2}


def test_compaction_keeps_the_last_of_each_key_and_moves_no_offset(broker: MemoryBroker) -> None:
    for key, value in ((b"a", b"1"), (b"b", b"1"), (b"a", b"2"), (b"b", None)):
        broker.produce("table", key, value)
    broker.compact("table")
    assert rows(broker, "table") == [(2, b"a", b"2"), (3, b"b", None)]
    broker.compact("table")
    assert rows(broker, "table") == [(2, b"a", b"2")]
    assert broker.end_offsets("table") == {0: 4}
    assert broker.produce("table", b"c", b"1").offset == 4


def test_compaction_drops_tombstones_at_once_when_asked(broker: MemoryBroker) -> None:
    broker.produce("table", b"a", None)
    broker.compact("table", drop_tombstones=True)
    assert rows(broker, "table") == []


def test_compaction_stops_at_an_open_transaction_and_goes_by_nothing_aborted(broker: MemoryBroker) -> None:
    broker.produce("table", b"a", b"1")
    producer = broker.producer("other")
    producer.begin()
    producer.send(Output("table", b"a", b"2"))
    broker.produce("table", b"b", b"1")
    broker.produce("table", b"b", b"2")
    broker.compact("table")
    assert [value for _, _, value in rows(broker, "table")] == [b"1"]
    producer.abort()
    assert [value for _, _, value in rows(broker, "table")] == [b"1", b"1", b"2"]
    broker.compact("table")
    assert [value for _, _, value in rows(broker, "table")] == [b"1", b"2"]


def test_a_topic_that_is_not_compacted_is_not_cleaned(broker: MemoryBroker) -> None:
    with pytest.raises(SetupError, match=r"cleanup\.policy"):
        broker.compact("in")


def test_an_abort_by_the_coordinator_rewinds(broker: MemoryBroker) -> None:
    broker.abort_next("a")
    first = session(broker)
    assert len(first.poll(10, 0).records) == 3
    with pytest.raises(Aborted):
        first.commit([Output("out", b"k", b"1")], {IN: 3})
    assert len(first.poll(10, 0).records) == 3
    first.commit([Output("out", b"k", b"2")], {IN: 3})
    assert [r.value for r in broker.read("out")] == [b"2"]
    assert [r.value for r in broker.read("out", "read_uncommitted")] == [b"1", b"2"]


@pytest.mark.parametrize("happened", [True, False])
def test_a_lost_reply_is_settled_by_the_offsets(broker: MemoryBroker, happened: bool) -> None:
    broker.lose_reply_next("a", happened=happened)
    first = session(broker)
    first.poll(10, 0)
    outputs, offsets = [Output("out", b"k", b"1")], {IN: 3}
    if happened:
        first.commit(outputs, offsets)
    else:
        with pytest.raises(Aborted):
            first.commit(outputs, offsets)
    assert len(broker.read("out")) == happened
    assert len(first.poll(10, 0).records) == (0 if happened else 3)
    first.commit(outputs, {IN: 2})
    assert len(broker.read("out")) == 1 + happened


def test_a_lost_reply_that_no_offset_can_settle_ends_the_session(broker: MemoryBroker) -> None:
    broker.lose_reply_next("a")
    first = session(broker)
    first.poll(10, 0)
    with pytest.raises(Fenced):
        first.commit([Output("out", b"k", b"1")], {})
    with pytest.raises(Fenced):
        first.poll(10, 0)


def test_a_crash_leaves_its_transaction_open_until_the_timeout(broker: MemoryBroker, clock: ManualClock) -> None:
    broker.crash_next("a")
    dead = session(broker)
    dead.poll(10, 0)
    with pytest.raises(Crashed):
        dead.commit([Output("out", b"k", b"1")], {IN: 3})
    broker.produce("out", b"k", b"behind")
    assert rows(broker, "out") == []
    clock.advance(9.9)
    assert rows(broker, "out") == []
    clock.advance(0.1)
    assert [value for _, _, value in rows(broker, "out")] == [b"behind"]
    with pytest.raises(Fenced):
        dead.commit([], {IN: 3})


def test_a_successor_waits_for_the_offsets_of_an_open_transaction(clock: ManualClock) -> None:
    broker = MemoryBroker(clock, session_timeout=5.0, transaction_timeout=10.0)
    broker.create_topic("in")
    broker.produce("in", b"k", b"1")
    broker.crash_next("a")
    dead = session(broker)
    dead.poll(10, 0)
    with pytest.raises(Crashed):
        dead.commit([], {IN: 1})
    clock.advance(6.0)
    heir = session(broker, "b")
    assert heir.poll(10, 0).gained == []
    clock.advance(4.0)
    assert [claim.offsets["in"] for claim in heir.poll(10, 0).gained] == [0]


def test_a_restart_decides_what_its_former_self_has_left_open(broker: MemoryBroker) -> None:
    broker.crash_next("a")
    dead = session(broker)
    dead.poll(10, 0)
    with pytest.raises(Crashed):
        dead.commit([Output("out", b"k", b"1")], {IN: 3})
    broker.produce("out", b"k", b"behind")
    session(broker)
    assert [value for _, _, value in rows(broker, "out")] == [b"behind"]


def test_a_crash_after_the_commit_has_committed(broker: MemoryBroker) -> None:
    broker.crash_next("a", committed=True)
    dead = session(broker)
    dead.poll(10, 0)
    with pytest.raises(Crashed):
        dead.commit([Output("out", b"k", b"1")], {IN: 3})
    assert (len(broker.read("out")), broker.committed("g")) == (1, {IN: 3})


def test_close_gives_all_away_before_any_timeout(broker: MemoryBroker) -> None:
    first = session(broker)
    first.poll(10, 0)
    first.close()
    assert [claim.partition for claim in session(broker, "b").poll(10, 0).gained] == [0]


def test_a_full_partition_does_not_starve_another(broker: MemoryBroker) -> None:
    broker.create_topic("wide", 2)
    for partition in (0, 1):
        for _ in range(5):
            broker.produce("wide", b"k", b"v", partition=partition)
    first = session(broker, "a", Inputs("wide"))
    assert {record.partition for _ in range(4) for record in first.poll(1, 0).records} == {0, 1}


def test_metadata_that_cannot_be_cleared_rewinds_nothing(broker: MemoryBroker) -> None:
    broker.create_topic("wide", 2)
    for partition in (0, 1):
        broker.produce("wide", b"k", b"v", partition=partition)
    first = session(broker, "a", Inputs("wide"))
    first.poll(10, 0)
    first.commit([], {("wide", 0): 0, ("wide", 1): 0}, "running")
    session(broker, "b", Inputs("wide")).poll(10, 0)
    broker.abort_next("a")
    polled = first.poll(10, 0)
    assert (len(polled.lost), polled.records) == (1, [])


def test_a_session_cannot_commit_a_partition_that_it_has_lost(broker: MemoryBroker) -> None:
    broker.create_topic("wide", 2)
    wide = Inputs("wide")
    first = session(broker, "a", wide)
    first.poll(10, 0)
    session(broker, "b", wide).poll(10, 0)
    (lost,) = first.poll(10, 0).lost
    with pytest.raises(Aborted, match="not owned"):
        first.commit([], {("wide", lost): 1})
    first.commit([], {("wide", 1 - lost): 0})


def test_a_partition_moves_only_when_its_owner_has_let_go(clock: ManualClock) -> None:
    group = Group(4, clock.now, 30.0)
    first, _, owned = group.heartbeat(group.join())
    assert owned == {0, 1, 2, 3}
    second, _, gained = group.heartbeat(group.join())
    assert gained == frozenset()
    first, revoked, _ = group.heartbeat(first)
    assert revoked == {2, 3}
    second, _, gained = group.heartbeat(second)
    assert gained == {2, 3}


def test_a_silent_member_is_removed_by_the_clock_and_may_not_commit(clock: ManualClock) -> None:
    group = Group(2, clock.now, 30.0)
    silent, _, _ = group.heartbeat(group.join())
    clock.advance(29.0)
    group.check(silent)
    heir = group.join()
    clock.advance(1.0)
    heir, _, gained = group.heartbeat(heir)
    assert gained == {0, 1}
    with pytest.raises(UnknownMember):
        group.check(silent)


def test_an_older_generation_may_not_commit(clock: ManualClock) -> None:
    group = Group(2, clock.now, 30.0)
    now, _, _ = group.heartbeat(group.join())
    with pytest.raises(UnknownMember):
        group.check(Membership(now.member, now.generation - 1))


@pytest.mark.parametrize("members", [1, 2, 3, 5, 9])
def test_the_assignment_is_balanced_and_a_newcomer_moves_nothing_but_its_own_share(clock: ManualClock, members: int) -> None:
    group = Group(7, clock.now, 30.0)
    beats = [group.heartbeat(member) for member in [group.join() for _ in range(members)]]
    before = [owned for _, _, owned in beats]
    assert sorted(p for owned in before for p in owned) == list(range(7))
    assert max(map(len, before)) - min(map(len, before)) <= 1
    newcomer = group.join()
    beats = [group.heartbeat(member) for member, _, _ in beats]
    given = [p for _, revoked, _ in beats for p in revoked]
    assert [gained for _, _, gained in beats] == [frozenset()] * members
    assert sorted(group.heartbeat(newcomer)[2]) == sorted(given)
    assert len(given) == 7 // (members + 1)


def test_a_mistake_in_a_topics_name_says_what_to_do(broker: MemoryBroker) -> None:
    with pytest.raises(SetupError, match="create it first"):
        broker.produce("missing", b"k", b"v")
    with pytest.raises(SetupError, match="exists"):
        broker.create_topic("in")
    with pytest.raises(SetupError, match="no partition 7"):
        broker.produce("in", b"k", b"v", partition=7)
