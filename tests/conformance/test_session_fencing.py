"""The laws of `Session` on membership: restarts, deaths, zombies and rebalances, and who may commit after them.

The one rule: as in test_session.py.
"""

from collections import defaultdict

import pytest

from streams.errors import Aborted, Fenced
from streams.record import Output
from streams.session import Inputs
from tests.conformance.test_session import fill, numbers, opened, read_all, values
from tests.conformance.universe import Member, Universe


def test_a_restart_fences_its_former_self(universe: Universe) -> None:
    topic, out = universe.topic("in"), universe.topic("out")
    fill(universe, topic, 0, numbers(3))
    old = opened(universe, Inputs(topic))
    read_all(universe, old, 3)
    new = opened(universe, Inputs(topic))
    new.poll()
    with pytest.raises(Fenced):
        old.commit([Output(out, b"k", b"from the past")])
    assert universe.committed() == {}
    old.session.close()
    read_all(universe, new, 3)
    new.commit([Output(out, b"k", b"once")])
    assert values(universe.read(out)) == [b"once"]


def zombie_and_heir(universe: Universe, topic: str) -> tuple[Member, Member]:
    """A member that was frozen with all of the topic in hand, thawed after another has taken its place."""
    zombie = opened(universe, Inputs(topic), "zombie")
    read_all(universe, zombie, 3)
    heir = opened(universe, Inputs(topic), "heir")
    universe.freeze(zombie.session)
    read_all(universe, heir, 3)
    universe.thaw(zombie.session)
    return zombie, heir


def test_a_zombie_cannot_commit_what_it_has_in_hand(universe: Universe) -> None:
    topic, out = universe.topic("in"), universe.topic("out")
    fill(universe, topic, 0, numbers(3))
    zombie, heir = zombie_and_heir(universe, topic)
    with pytest.raises((Aborted, Fenced)):
        zombie.commit([Output(out, b"k", b"zombie")])
    assert (universe.read(out), universe.committed()) == ([], {})
    universe.wait(lambda: heir.copy(out), lambda: bool(universe.committed()))
    assert (values(universe.read(out)), universe.committed()) == (numbers(3), {(topic, 0): 3})


def test_a_zombie_cannot_commit_outputs_without_offsets_either(universe: Universe) -> None:
    topic, out = universe.topic("in"), universe.topic("out")
    fill(universe, topic, 0, numbers(3))
    zombie, _ = zombie_and_heir(universe, topic)
    with pytest.raises((Aborted, Fenced)):
        zombie.session.commit([Output(out, b"k", b"a parked record, completed")], {})
    assert universe.read(out) == []


def test_a_zombie_becomes_a_good_member_again_or_ends(universe: Universe) -> None:
    topic, out = universe.topic("in"), universe.topic("out")
    fill(universe, topic, 0, numbers(3))
    zombie, heir = zombie_and_heir(universe, topic)
    universe.wait(lambda: heir.copy(out), lambda: bool(universe.committed()))
    try:
        with pytest.raises(Aborted):
            zombie.commit([Output(out, b"k", b"zombie")])
        zombie.hand.clear()
        assert 0 in zombie.poll().lost
        heir.session.close()
        universe.wait(lambda: zombie.copy(out), lambda: 0 in zombie.owned)
    except Fenced:
        return
    universe.produce(topic, b"k", b"3")
    universe.wait(lambda: zombie.copy(out), lambda: len(universe.read(out)) >= 4)
    assert values(universe.read(out)) == numbers(4)


def test_members_share_the_partitions_and_nothing_is_doubled_lost_or_out_of_order(universe: Universe) -> None:
    topic, out = universe.topic("in", partitions=4), universe.topic("out", partitions=4)
    members = {"a": opened(universe, Inputs(topic), "a")}
    sent = 0

    def cycle() -> None:
        nonlocal sent
        if sent < 400:
            for _ in range(20):
                universe.produce(topic, b"key %d" % (sent % 7), b"%d" % sent)
                sent += 1
        for member in members.values():
            member.copy(out)

    universe.wait(cycle, lambda: members["a"].owned == {0, 1, 2, 3})
    members["b"] = opened(universe, Inputs(topic), "b")
    universe.wait(cycle, lambda: all(len(member.owned) == 2 for member in members.values()))
    assert members["a"].owned | members["b"].owned == {0, 1, 2, 3}
    universe.kill(members.pop("a").session)
    universe.wait(cycle, lambda: len(members["b"].owned) == 4)
    members["c"] = opened(universe, Inputs(topic), "c")
    universe.wait(cycle, lambda: all(len(member.owned) == 2 for member in members.values()))
    members.pop("b").session.close()
    universe.wait(cycle, lambda: sent >= 400 and len(universe.read(out)) >= sent)

    by_key = defaultdict(list)
    for record in universe.read(out):
        by_key[record.key].append(int(record.value or b""))
    assert by_key == {b"key %d" % key: list(range(key, sent, 7)) for key in range(7)}


def test_records_in_the_hand_of_a_killed_process_are_read_again(universe: Universe) -> None:
    topic = universe.topic("in")
    fill(universe, topic, 0, numbers(5))
    dead = opened(universe, Inputs(topic))
    read_all(universe, dead, 5)
    dead.session.commit([], {(topic, 0): 2})
    universe.kill(dead.session)
    heir = opened(universe, Inputs(topic))
    read_all(universe, heir, 3)
    assert values(heir.hand) == numbers(3, start=2)


def test_close_gives_the_partitions_away_at_once_and_may_be_repeated(universe: Universe) -> None:
    topic = universe.topic("in", partitions=2)
    first, second = opened(universe, Inputs(topic), "a"), opened(universe, Inputs(topic), "b")

    def both() -> None:
        first.poll()
        second.poll()

    universe.wait(both, lambda: len(first.owned) == len(second.owned) == 1)
    first.session.close()
    first.session.close()
    universe.wait(second.poll, lambda: second.owned == {0, 1})
