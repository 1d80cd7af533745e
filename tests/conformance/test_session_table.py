"""The laws of `Session` on ownership: whoever has partition p of the lead has p of every other input and of the table.

The one rule: as in test_session.py.
"""

import pytest

from streams.errors import Aborted
from streams.record import Output
from streams.session import Inputs
from tests.conformance.test_session import fill, numbers, opened, read_all, values
from tests.conformance.universe import Member, Universe

COMPACT = {"cleanup.policy": "compact"}


def park(universe: Universe, table: str, keys: str, partition: int = 0) -> None:
    """One committed transaction that puts a row for each letter: the control marker is the table's last offset."""
    universe.transaction([Output(table, key.encode(), b"row " + key.encode(), partition=partition) for key in keys]).commit()


def gain(universe: Universe, member: Member, partitions: set[int]) -> None:
    universe.wait(member.poll, lambda: member.owned == partitions)


def test_all_inputs_follow_the_lead(universe: Universe) -> None:
    topics = [universe.topic(name, partitions=4) for name in ("lead", "second", "third")]
    lead, *others = topics
    for topic in topics:
        for partition in range(4):
            fill(universe, topic, partition, [b"1"])
    inputs = Inputs(lead, tuple(others))
    members = [opened(universe, inputs, "a"), opened(universe, inputs, "b")]

    def both() -> None:
        for member in members:
            member.poll()

    universe.wait(both, lambda: all(len(m.owned) == 2 and len(m.hand) == 6 for m in members))
    for member in members:
        assert {(r.topic, r.partition) for r in member.hand} == {(t, p) for t in topics for p in member.owned}


def test_offsets_of_every_input_are_committed_and_found_again(universe: Universe) -> None:
    lead, other = universe.topic("lead"), universe.topic("other")
    fill(universe, lead, 0, numbers(3))
    fill(universe, other, 0, numbers(4))
    inputs = Inputs(lead, (other,))
    first = opened(universe, inputs)
    read_all(universe, first, 7)
    first.session.commit([], {(lead, 0): 2, (other, 0): 3}, "both")
    assert universe.committed() == {(lead, 0): 2, (other, 0): 3}
    first.session.close()

    second = opened(universe, inputs)
    read_all(universe, second, 2)
    assert (dict(second.claims[0].offsets), second.claims[0].metadata) == ({lead: 2, other: 3}, "")
    assert {(r.topic, r.offset) for r in second.hand} == {(lead, 2), (other, 3)}


def test_an_abort_rewinds_every_input(universe: Universe) -> None:
    lead, other, compacted = universe.topic("lead"), universe.topic("other"), universe.topic("compacted", config=COMPACT)
    fill(universe, lead, 0, numbers(3))
    fill(universe, other, 0, numbers(3))
    member = opened(universe, Inputs(lead, (other,)))
    read_all(universe, member, 6)
    member.session.commit([], {(lead, 0): 1})
    with pytest.raises(Aborted):
        member.session.commit([Output(compacted, None, b"keyless")], {(lead, 0): 3, (other, 0): 3})
    member.hand.clear()
    read_all(universe, member, 5)
    assert sorted((r.topic, r.offset) for r in member.hand) == sorted(
        [(lead, 1), (lead, 2), (other, 0), (other, 1), (other, 2)]
    )


@pytest.mark.parametrize("last", ["record", "marker of a commit", "marker of an abort", "nothing"])
def test_the_table_comes_whole_before_its_partition(universe: Universe, last: str) -> None:
    lead, table = universe.topic("lead", partitions=2), universe.topic("table", partitions=2, config=COMPACT)
    fill(universe, lead, 0, [b"1"])
    expected = [] if last == "nothing" else numbers(500)
    for number in expected:
        universe.produce(table, number, number, partition=0)
    if last == "marker of a commit":
        park(universe, table, "z")
        expected = [*expected, b"row z"]
    elif last == "marker of an abort":
        universe.transaction([Output(table, b"z", b"never", partition=0)]).abort()
    member = opened(universe, Inputs(lead, table=table))
    seen_at_gain: list[bytes | None] = []

    def step() -> None:
        polled = member.poll(limit=100)
        if any(claim.partition == 0 for claim in polled.gained):
            seen_at_gain.extend(values(member.table.get(0, [])))

    universe.wait(step, lambda: member.owned == {0, 1} and len(member.hand) == 1)
    assert seen_at_gain == expected


def test_a_row_of_the_table_is_undecided_so_the_partition_waits(universe: Universe) -> None:
    lead, table = universe.topic("lead", partitions=2), universe.topic("table", partitions=2, config=COMPACT)
    fill(universe, lead, 0, [b"1"])
    undecided = universe.transaction([Output(table, b"z", b"row z", partition=0)])
    member = opened(universe, Inputs(lead, table=table))
    gain(universe, member, {1})
    undecided.commit()
    read_all(universe, member, 1)
    assert (member.owned, values(member.table[0])) == ({0, 1}, [b"row z"])


def test_rows_of_other_writers_arrive_while_the_partition_is_owned(universe: Universe) -> None:
    lead, table = universe.topic("lead", partitions=2), universe.topic("table", partitions=2, config=COMPACT)
    member = opened(universe, Inputs(lead, table=table))
    gain(universe, member, {0, 1})
    member.session.pause([0, 1])
    universe.produce(table, b"a", b"row a", (("by", b"operator"),), partition=0)
    universe.produce(table, b"a", None, partition=0)
    park(universe, table, "b", partition=1)
    universe.wait(member.poll, lambda: sum(map(len, member.table.values())) == 3)
    assert [(r.key, r.value, r.headers) for r in member.table[0]] == [
        (b"a", b"row a", (("by", b"operator"),)),
        (b"a", None, ()),
    ]
    assert values(member.table[1]) == [b"row b"]


def test_the_table_moves_with_its_partition(universe: Universe) -> None:
    lead, table = universe.topic("lead", partitions=2), universe.topic("table", partitions=2, config=COMPACT)
    inputs = Inputs(lead, table=table)
    first = opened(universe, inputs, "a")
    fill(universe, lead, 0, [b"1"])
    fill(universe, lead, 1, [b"1"])
    read_all(universe, first, 2)
    first.commit([Output(table, b"row", b"of %d" % partition, partition=partition) for partition in (0, 1)])
    second = opened(universe, inputs, "b")

    def both() -> None:
        first.poll()
        second.poll()

    universe.wait(both, lambda: len(first.owned) == len(second.owned) == 1)
    (moved,) = second.owned
    assert values(second.table[moved]) == [b"of %d" % moved]
    universe.kill(first.session)
    gain(universe, second, {0, 1})
    assert {p: values(rows) for p, rows in second.table.items()} == {0: [b"of 0"], 1: [b"of 1"]}
