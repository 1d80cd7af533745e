"""Reconciling by example: each fault is found and named, and nothing else is."""

from collections.abc import Iterator

import msgspec
import pytest

from streams import names
from streams.codec import Codec
from streams.memory.log import Position
from streams.receipts import Receipt
from streams.record import Record
from streams.registry import FolderRegistry
from streams.testing import Simulation
from streams.travel import event_id, output_id
from tests.support.moves import Asked, make, start
from tests.support.reconciling import Copy, copied, judged

ANSWERED, ASKED, RECEIPTS = "moves.answered", "moves.asked", names.receipts("moves")


@pytest.fixture
def flow() -> Iterator[Simulation]:
    """Events with all sorts of ends, in several transactions."""
    with start(make(batch=3)) as flow:
        words = [("done:2",), ("done:0",), ("reject",), ("retry", "done:1"), ("wait:500",), ()]
        for number in range(36):
            flow.produce(Asked(f"k{number}", number, words[number % 6]))
        flow.run(seconds=30)
        yield flow


def kinds(flow: Simulation, copy: Copy) -> list[str]:
    return [difference.kind for difference in judged(flow, copy).differences]


def outputs(copy: Copy, count: int = 1) -> list[Record]:
    """All outputs of a cause that has so many."""
    by_cause: dict[bytes | None, list[Record]] = {}
    for record in copy.topics[ANSWERED]:
        by_cause.setdefault(dict(record.headers)["cause"], []).append(record)
    return next(found for found in by_cause.values() if len(found) == count)


def test_a_flow_without_a_fault_adds_up(flow: Simulation) -> None:
    result = judged(flow, copied(flow))
    assert result.differences == []
    assert result.unknown == {}
    assert [(each.stage, each.state, each.count) for each in result.open] == [("play", "parked", 6)]
    assert result.counts[ASKED] == sum(result.consumed["play"].values()) == 36


def test_what_has_not_been_consumed_is_open(flow: Simulation) -> None:
    flow.workers[0].crash()
    flow.produce(Asked("k", 99))
    result = judged(flow, copied(flow))
    assert result.differences == []
    assert ("play", "waits", 1) in [(each.stage, each.state, each.count) for each in result.open]


def test_an_output_that_is_gone_is_named_by_its_cause(flow: Simulation) -> None:
    copy = copied(flow)
    (gone,) = outputs(copy)
    copy.topics[ANSWERED].remove(gone)
    (difference,) = judged(flow, copy).differences
    assert (difference.kind, difference.where) == ("lost", "play")
    assert difference.ids == (dict(gone.headers)["cause"].decode(),)  # type: ignore[union-attr]  # it has one


def test_an_output_that_is_gone_while_another_of_its_cause_is_there_is_named(flow: Simulation) -> None:
    copy = copied(flow)
    gone, _ = outputs(copy, 2)
    copy.topics[ANSWERED].remove(gone)
    (difference,) = judged(flow, copy).differences
    assert (difference.kind, difference.ids[0]) == ("lost", event_id(gone))


def test_the_last_output_of_several_that_is_gone_is_counted(flow: Simulation) -> None:
    copy = copied(flow)
    _, gone = outputs(copy, 2)
    copy.topics[ANSWERED].remove(gone)
    (difference,) = judged(flow, copy).differences
    assert (difference.kind, difference.ids, difference.theirs) == ("lost", (ANSWERED,), "1 fewer are there")


def test_an_output_that_a_repair_has_put_back_is_no_fault(flow: Simulation) -> None:
    codec = Codec([Receipt], FolderRegistry(flow.topology.schemas))
    copy = copied(flow)
    (gone,) = outputs(copy)
    copy.topics[ANSWERED].remove(gone)
    copy.add(gone)
    receipt = codec.decoder(Receipt)(copy.topics[RECEIPTS][0].value)
    repair = Receipt("play", "replay", "r", 0, "1", receipt.at, (), 0, {}, {ANSWERED: 1}, 0, 0, 0, 0, 0, 0, ())
    copy.add(msgspec.structs.replace(copy.topics[RECEIPTS][0], value=codec.encoder(Receipt)(repair)))
    assert judged(flow, copy).differences == []


def test_a_truncated_topic_is_a_fault_before_its_retention_and_unknown_after(flow: Simulation) -> None:
    copy = copied(flow)
    copy.delete(ANSWERED, 0, copy.ends[ANSWERED, 0])
    found = judged(flow, copy)
    assert {difference.kind for difference in found.differences} == {"lost"}
    later = judged(flow, copy, keeps={ANSWERED: 0.001})
    assert later.differences == []
    assert later.unknown["outputs that retention may have removed"] == len(found.differences)
    assert found.unknown, "one that is lost had two outputs, and who knows whether that was all"


def test_an_output_that_a_foreign_producer_copies_is_named_once(flow: Simulation) -> None:
    copy = copied(flow)
    doubled = copy.topics[ANSWERED][0]
    copy.add(doubled)
    (difference,) = judged(flow, copy).differences
    assert (difference.kind, difference.ids) == ("doubled", (event_id(doubled),))


def test_an_input_that_comes_twice_is_named_and_not_what_follows_from_it(flow: Simulation) -> None:
    (first,) = [record for record in flow.broker.read(ASKED) if record.key == b"k0"]
    flow.broker.produce(ASKED, b"k0", first.value, (("id", event_id(first).encode()),))
    flow.run()
    result = judged(flow, copied(flow))
    assert [(each.kind, each.where) for each in result.differences] == [("doubled", ASKED)]


@pytest.mark.parametrize("headers", [(), (("id", b"x" * 32), ("cause", b"y" * 32))])
def test_a_foreign_event_is_named(flow: Simulation, headers: tuple[tuple[str, bytes], ...]) -> None:
    copy = copied(flow)
    copy.add(Record(ANSWERED, 0, 0, b"k", copy.topics[ANSWERED][0].value, headers, 1))
    assert kinds(flow, copy) == ["foreign"]


def test_an_output_whose_cause_nobody_has_sent_is_named(flow: Simulation) -> None:
    copy = copied(flow)
    known = output_id("made up", "play", 0).encode()
    copy.add(Record(ANSWERED, 0, 0, b"k", copy.topics[ANSWERED][0].value, (("id", known), ("cause", b"made up")), 1))
    assert kinds(flow, copy) == ["no-cause"]


def test_a_missing_receipt_is_named_and_what_it_covered_is_not(flow: Simulation) -> None:
    copy = copied(flow)
    receipts = copy.topics[RECEIPTS]
    assert len(receipts) > 4
    receipts.remove(receipts[2])
    (difference,) = judged(flow, copy).differences
    assert (difference.kind, difference.where) == ("receipt-missing", "play")
    assert difference.ids[0].endswith("#2")


def test_offsets_moved_forward_by_hand_leave_a_gap_that_is_named(flow: Simulation) -> None:
    flow.workers[0].close()
    place = (ASKED, 0)
    skipped = [flow.broker.produce(ASKED, key, flow.broker.read(ASKED)[0].value) for key in _keys(flow, 0, 3)]
    end = flow.broker.committed("moves.play")[place]
    move(flow, end + 3)
    flow.start("play", "b")
    flow.broker.produce(ASKED, _keys(flow, 0, 1)[0], flow.broker.read(ASKED)[0].value)
    flow.run()
    (difference,) = judged(flow, copied(flow)).differences
    assert (difference.kind, difference.ids) == ("gap", tuple(event_id(record) for record in skipped))


def test_offsets_moved_back_by_hand_are_named_and_the_repeated_outputs_are_not(flow: Simulation) -> None:
    flow.workers[0].close()
    move(flow, 3)
    flow.start("play", "b")
    flow.run(seconds=30)
    (difference,) = judged(flow, copied(flow)).differences
    assert difference.kind == "overlap"


@pytest.mark.parametrize(("to", "kind"), [(3, "overlap"), (10**6, "gap")])
def test_offsets_moved_by_hand_are_named_before_the_stage_goes_on(flow: Simulation, to: int, kind: str) -> None:
    copy = copied(flow)
    end = copy.committed["moves.play"][ASKED, 0]
    if kind == "gap":
        copy.add(Record(ASKED, 0, 0, b"k", b"", (), 1))
    copy.committed["moves.play"][ASKED, 0] = min(to, end + 1)
    assert kinds(flow, copy) == [kind]


def test_a_receipt_that_does_not_add_up_and_one_that_is_copied_are_named(flow: Simulation) -> None:
    codec = Codec([Receipt], FolderRegistry(flow.topology.schemas))
    copy = copied(flow)
    receipts = copy.topics[RECEIPTS]
    receipt = codec.decoder(Receipt)(receipts[0].value)
    wrong = codec.encoder(Receipt)(msgspec.structs.replace(receipt, consumed=receipt.consumed + 1))
    copy.add(receipts[1])
    receipts[0] = msgspec.structs.replace(receipts[0], value=wrong)
    assert sorted(kinds(flow, copy)) == ["receipt-doubled", "receipt-unsound"]


def test_a_parked_record_and_a_case_that_are_gone_are_named(flow: Simulation) -> None:
    copy = copied(flow)
    copy.topics[names.retry("moves", "play")].clear()
    found = kinds(flow, copy)
    assert (found.count("lost"), found.count("parked")) == (6, 1)
    copy = copied(flow)
    copy.topics[names.cases("moves")].pop()
    assert "case-missing" in kinds(flow, copy)


def move(flow: Simulation, offset: int) -> None:
    """What `kafka-consumer-groups --reset-offsets` does to partition 0."""
    flow.broker._offsets["moves.play", ASKED, 0] = Position(offset, "")


def _keys(flow: Simulation, partition: int, count: int) -> list[bytes]:
    return [record.key or b"" for record in flow.broker.read(ASKED) if record.partition == partition][:count]
