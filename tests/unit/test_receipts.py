"""Receipts by example: what one transaction says of itself."""

from streams.receipts import Span, spans
from streams.record import Record
from streams.testing import Simulation
from tests.support.moves import Asked, World, make, start
from topologies.orders import orders


def test_a_receipt_says_what_was_consumed_and_what_became_of_it() -> None:
    with start() as flow:
        for number, moves in enumerate([("done:2",), ("done:0",), ("reject",), ("wait:5", "done:0")]):
            flow.produce(Asked("k", number, moves))
        flow.run()
        (first,) = flow.receipts("play")
        partition = first.ranges[0].partition
        assert first.ranges == (Span("moves.asked", partition, 0, 4),)
        assert (first.stage, first.instance, first.sequence, first.consumed) == ("play", "a", 0, 4)
        assert first.verdicts == {"done": 2, "reject": 1, "retry": 1}
        assert first.outputs == {"moves.answered": 2}
        assert (first.parked_in, first.parked_out, first.dead, first.held) == (1, 0, 1, 0)
        assert first.silent == (Span("moves.asked", partition, 1, 2),)
        flow.run(seconds=6)
        second = flow.receipts("play")[1]
        assert (second.sequence, second.consumed, second.parked_out, second.ranges) == (1, 0, 1, ())
        assert second.silent == (Span("moves.asked", partition, 3, 4),)


def test_a_transaction_that_did_not_happen_leaves_no_receipt_and_no_gap() -> None:
    with start() as flow:
        flow.run()
        flow.broker.abort_next("moves.play.a")
        flow.produce(Asked("k", 0))
        flow.run()
        assert flow.workers[0].engine.totals["aborted"] == 1
        assert [(receipt.sequence, receipt.consumed) for receipt in flow.receipts("play")] == [(0, 1)]


def test_a_successor_goes_on_where_the_last_receipt_ends() -> None:
    with start() as flow:
        flow.produce(Asked("k", 0))
        flow.run()
        flow.workers[0].crash()
        flow.start("play", "b")
        flow.produce(Asked("k", 1))
        flow.run(seconds=30)
        one, other = flow.receipts("play")
        assert one.ranges[0].end == other.ranges[0].start
        assert one.session != other.session
        assert other.sequence == 0


def test_a_held_record_is_dead_and_stays() -> None:
    with start(make(after_dead="hold"), World()) as flow:
        flow.produce(Asked("k", 0, ("reject",)))
        flow.run()
        (receipt,) = flow.receipts("play")
        assert (receipt.dead, receipt.held, receipt.parked_in, receipt.silent) == (1, 1, 1, ())


def test_waiting_for_a_dependency_writes_no_receipt_after_receipt() -> None:
    world = World()
    world.away = True
    with start(at=world) as flow:
        flow.produce(Asked("k", 0))
        flow.run(seconds=60)
        (receipt,) = flow.receipts("play")
        assert (receipt.parked_in, receipt.verdicts) == (1, {"unavailable": 1})


def test_silent_records_that_follow_upon_one_another_are_one_span() -> None:
    records = [Record("b", 0, 7, None, None)] + [
        Record("a", partition, n, None, None) for n in (3, 1, 2, 9) for partition in (1, 0)
    ]
    assert spans(records) == (
        Span("a", 0, 1, 4),
        Span("a", 0, 9, 10),
        Span("a", 1, 1, 4),
        Span("a", 1, 9, 10),
        Span("b", 0, 7, 8),
    )
    assert spans([]) == ()


def test_every_stage_of_a_flow_gives_receipts() -> None:
    with Simulation(orders) as flow:
        flow.broker.produce("orders.submitted", b"k", b"no event")
        flow.run()
        (receipt,) = flow.receipts("intake")
        assert (receipt.dead, receipt.verdicts, receipt.version) == (1, {"undecodable": 1}, "test")
        assert flow.receipts("payment") == []
