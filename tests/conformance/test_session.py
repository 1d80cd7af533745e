"""The laws of `Session` on its inputs and outputs: what is committed, what is visible, who is fenced.

The one rule: the same laws for every broker; a law that needs to know which one it runs on is no law.
"""

from collections import defaultdict

import pytest

from streams.errors import Aborted, SetupError
from streams.record import Output, Record
from streams.session import Inputs
from tests.conformance.universe import Member, Universe

MIB = 1024 * 1024


def opened(universe: Universe, inputs: Inputs, instance: str = "a") -> Member:
    return Member(universe.open(inputs, instance))


def values(records: list[Record]) -> list[bytes | None]:
    return [record.value for record in records]


def numbers(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(start, start + count)]


def fill(universe: Universe, topic: str, partition: int, payloads: list[bytes]) -> None:
    for payload in payloads:
        universe.produce(topic, b"k", payload, partition=partition)


def read_all(universe: Universe, member: Member, count: int) -> None:
    universe.wait(member.poll, lambda: len(member.hand) >= count)


def test_the_next_owner_starts_where_the_last_one_committed(universe: Universe) -> None:
    topic = universe.topic("in")
    fill(universe, topic, 0, numbers(10))
    first = opened(universe, Inputs(topic))
    read_all(universe, first, 10)
    first.session.commit([], {(topic, 0): 6}, "half way")
    first.session.close()  # in good order
    assert universe.committed() == {(topic, 0): 6}

    second = opened(universe, Inputs(topic), "b")
    read_all(universe, second, 4)
    claim = second.claims[0]
    assert (dict(claim.offsets), claim.metadata) == ({topic: 6}, "")
    assert values(second.hand) == numbers(4, start=6)


def test_the_metadata_of_a_commit_stays_when_its_owner_is_killed(universe: Universe) -> None:
    topic = universe.topic("in")
    fill(universe, topic, 0, numbers(10))
    first = opened(universe, Inputs(topic))
    read_all(universe, first, 10)
    first.session.commit([], {(topic, 0): 6}, "half way")
    universe.kill(first.session)

    second = opened(universe, Inputs(topic))
    read_all(universe, second, 4)
    assert (dict(second.claims[0].offsets), second.claims[0].metadata) == ({topic: 6}, "half way")


def test_the_metadata_is_cleared_where_a_rebalance_takes_a_partition_in_good_order(universe: Universe) -> None:
    topic = universe.topic("in", 2)
    for partition in (0, 1):
        fill(universe, topic, partition, numbers(1))
    first = opened(universe, Inputs(topic))
    read_all(universe, first, 2)
    first.commit([], "running")
    second = opened(universe, Inputs(topic), "b")

    def step() -> None:
        first.poll()
        second.poll()

    universe.wait(step, lambda: len(second.claims) == 1)
    (claim,) = second.claims.values()
    assert (dict(claim.offsets), claim.metadata) == ({topic: 1}, "")


def test_a_new_group_starts_at_the_beginning(universe: Universe) -> None:
    topic = universe.topic("in")
    fill(universe, topic, 0, numbers(2))
    member = opened(universe, Inputs(topic))
    read_all(universe, member, 2)
    assert (member.claims[0].offsets[topic], member.claims[0].metadata) == (0, "")
    assert values(member.hand) == numbers(2)


def test_outputs_appear_with_the_offsets_of_their_sources(universe: Universe) -> None:
    topic, out = universe.topic("in"), universe.topic("out")
    fill(universe, topic, 0, numbers(3))
    member = opened(universe, Inputs(topic))
    read_all(universe, member, 3)
    assert (universe.read(out), universe.committed()) == ([], {})
    member.commit([Output(out, b"k", value) for value in numbers(3)])
    assert (values(universe.read(out)), universe.committed()) == (numbers(3), {(topic, 0): 3})


@pytest.mark.parametrize("why", ["no key", "no such partition", "too large"])
def test_an_output_that_the_broker_refuses_aborts_all_and_rewinds(universe: Universe, why: str) -> None:
    topic, out = universe.topic("in"), universe.topic("out")
    compacted = universe.topic("compacted", config={"cleanup.policy": "compact"})
    refused = {
        "no key": Output(compacted, None, b"v"),
        "no such partition": Output(compacted, b"k", b"v", partition=1),
        "too large": Output(compacted, b"k", bytes(2 * MIB)),
    }[why]
    fill(universe, topic, 0, numbers(4))
    member = opened(universe, Inputs(topic))
    read_all(universe, member, 4)
    member.session.commit([], {(topic, 0): 1})
    with pytest.raises(Aborted):
        member.session.commit([Output(out, b"k", b"never"), refused], {(topic, 0): 4})
    assert universe.committed() == {(topic, 0): 1}

    member.hand.clear()
    read_all(universe, member, 3)
    assert values(member.hand) == numbers(3, start=1)
    member.commit([Output(out, b"k", b"after")])
    assert values(universe.read(out)) == [b"after"]


def test_aborted_records_are_never_read(universe: Universe) -> None:
    topic = universe.topic("in")
    universe.produce(topic, b"k", b"before")
    universe.transaction([Output(topic, b"k", b"aborted")]).abort()
    universe.produce(topic, b"k", b"after")
    member = opened(universe, Inputs(topic))
    read_all(universe, member, 2)
    assert values(member.hand) == [b"before", b"after"]


def test_an_open_transaction_holds_back_all_that_comes_after_it(universe: Universe) -> None:
    topic = universe.topic("in", partitions=2)
    undecided = universe.transaction([Output(topic, b"k", b"undecided", partition=0)])
    universe.produce(topic, b"k", b"behind", partition=0)
    universe.produce(topic, b"k", b"elsewhere", partition=1)
    member = opened(universe, Inputs(topic))
    read_all(universe, member, 1)
    assert values(member.hand) == [b"elsewhere"]
    undecided.commit()
    read_all(universe, member, 3)
    assert values(member.hand) == [b"elsewhere", b"undecided", b"behind"]


def test_each_partition_is_read_in_the_order_of_its_offsets(universe: Universe) -> None:
    topic = universe.topic("in", partitions=3)
    for number in range(90):
        universe.produce(topic, b"k", b"%d" % number, partition=number % 3)
    member = opened(universe, Inputs(topic))
    universe.wait(lambda: member.poll(limit=7), lambda: len(member.hand) >= 90)
    offsets = defaultdict(list)
    for record in member.hand:
        offsets[record.partition].append(record.offset)
    assert offsets == {partition: list(range(30)) for partition in range(3)}


def test_a_paused_partition_is_silent_until_it_is_resumed(universe: Universe) -> None:
    topic = universe.topic("in", partitions=2)
    fill(universe, topic, 0, numbers(2))
    member = opened(universe, Inputs(topic))
    universe.wait(lambda: member.poll(limit=1), lambda: len(member.hand) == 1)
    universe.wait(lambda: member.poll(limit=1), lambda: member.owned == {0, 1} and len(member.hand) == 2)
    member.session.pause([0])
    fill(universe, topic, 0, [b"held"])
    for number in range(3):
        fill(universe, topic, 1, [b"flows %d" % number])
        read_all(universe, member, 3 + number)
    assert values(member.hand)[2:] == [b"flows 0", b"flows 1", b"flows 2"]
    member.session.resume([0])
    read_all(universe, member, 6)
    assert values(member.hand)[5] == b"held"


def test_an_abort_rewinds_a_paused_partition_too(universe: Universe) -> None:
    topic = universe.topic("in", partitions=2)
    compacted = universe.topic("compacted", config={"cleanup.policy": "compact"})
    fill(universe, topic, 0, numbers(3))
    member = opened(universe, Inputs(topic))
    read_all(universe, member, 3)
    member.session.pause([0])
    with pytest.raises(Aborted):
        member.session.commit([Output(compacted, None, b"keyless")], {(topic, 0): 3})
    member.hand.clear()
    fill(universe, topic, 1, [b"flows"])
    read_all(universe, member, 1)
    assert values(member.hand) == [b"flows"]
    member.session.resume([0])
    read_all(universe, member, 4)
    assert values(member.hand)[1:] == numbers(3)


def test_bytes_go_through_untouched(universe: Universe) -> None:
    size = {"max.message.bytes": str(2 * MIB)}
    topic, out = universe.topic("in", config=size), universe.topic("out", config=size)
    headers = (
        ("empty", b""),
        ("none", None),
        ("twice", b"1"),
        ("twice", b"2"),
        ("bytes", b"\xff\xfe\x00"),
        ("näme", "größe".encode()),
    )
    sent: list[tuple[bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]]] = [
        (None, b"no key", ()),
        (b"", b"", headers),
        (b"\x00\xff", None, headers),
        (b"large", bytes(range(256)) * (MIB // 256), headers),
    ]
    for key, value, each in sent:
        universe.produce(topic, key, value, each)
    member = opened(universe, Inputs(topic))
    read_all(universe, member, len(sent))
    assert [(r.key, r.value, r.headers) for r in member.hand] == sent
    member.commit([Output(out, r.key, r.value, r.headers) for r in member.hand])
    assert [(r.key, r.value, r.headers) for r in universe.read(out)] == sent


def test_a_key_has_the_partition_that_every_client_gives_it(universe: Universe) -> None:
    """The vectors are from Kafka's own UtilsTest.testMurmur2."""
    topic, out = universe.topic("in"), universe.topic("out", partitions=50)
    fill(universe, topic, 0, [b"1"])
    vectors = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536, b"abc": 479470107}
    member = opened(universe, Inputs(topic))
    read_all(universe, member, 1)
    member.commit([Output(out, key, key) for key in vectors])
    assert {r.key: r.partition for r in universe.read(out)} == {k: (h & 0x7FFFFFFF) % 50 for k, h in vectors.items()}


def test_an_output_goes_to_the_partition_that_it_names(universe: Universe) -> None:
    topic, out = universe.topic("in"), universe.topic("out", partitions=3)
    member = opened(universe, Inputs(topic))
    fill(universe, topic, 0, [b"1"])
    read_all(universe, member, 1)
    member.commit([Output(out, b"k", b"%d" % partition, partition=partition) for partition in (2, 0, 1)])
    assert [(r.partition, r.value) for r in universe.read(out)] == [(0, b"0"), (1, b"1"), (2, b"2")]


def test_every_life_has_its_own_token(universe: Universe) -> None:
    topic = universe.topic("in")
    assert universe.open(Inputs(topic)).token != universe.open(Inputs(topic)).token


def test_topics_that_do_not_fit_together_are_refused(universe: Universe) -> None:
    lead, narrow = universe.topic("lead", partitions=2), universe.topic("narrow", partitions=1)
    for inputs in (Inputs(lead, (narrow,)), Inputs(lead, table=narrow), Inputs("missing"), Inputs(lead, ("missing",))):
        with pytest.raises(SetupError, match=r"narrow|missing"):
            opened(universe, inputs).poll()
