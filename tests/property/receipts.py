"""What the receipts of a story have to say, whoever died in it.

The one rule: each receipt adds up by itself, and all of them together tell of every input once.
"""

from collections import defaultdict
from itertools import pairwise

from streams import names
from streams.dead import State
from streams.receipts import Receipt, Span
from streams.testing import Simulation
from tests.property.accounts import Sent
from tests.support.moves import Answered


def check_receipts(flow: Simulation, sent: dict[int, Sent], *, hold: bool) -> None:
    """At the end of the story `moves`, where nothing is parked any more."""
    receipts = flow.receipts("play")
    for receipt in receipts:
        check_sum(receipt)
    check_sequences(receipts)
    check_ranges(
        [span for receipt in receipts for span in receipt.ranges], dict(flow.broker.committed(names.group("moves", "play")))
    )
    assert sum(receipt.consumed for receipt in receipts) == len(sent)
    assert sum(receipt.outputs.get("moves.answered", 0) for receipt in receipts) == len(flow.outputs(Answered))
    cases = flow.cases()
    told = [decision.what for case in cases for decision in case.decisions]
    assert sum(receipt.dead for receipt in receipts) == told.count("died") == len(flow.letters("play"))
    assert sum(receipt.resolved for receipt in receipts) == told.count("resolved")
    by_operators = -told.count("dismissed") if hold else told.count("redriven")
    assert sum(receipt.parked_in - receipt.parked_out for receipt in receipts) + by_operators == 0
    assert flow.parked("play") == []
    dead = {(case.topic, case.partition, case.offset) for case in cases if case.state in (State.OPEN, State.DISMISSED)}
    spoke = {answer.number for answer in flow.outputs(Answered)}
    places = {number: (each.record.topic, each.record.partition, each.record.offset) for number, each in sent.items()}
    silent = [
        (span.topic, span.partition, offset)
        for receipt in receipts
        for span in receipt.silent
        for offset in range(span.start, span.end)
    ]
    assert sorted(silent) == sorted(place for number, place in places.items() if number not in spoke and place not in dead)


def check_sum(receipt: Receipt) -> None:
    done = receipt.verdicts.get("done", 0)
    assert receipt.consumed + receipt.parked_out == done + receipt.dead - receipt.held + receipt.parked_in


def check_sequences(receipts: list[Receipt]) -> None:
    by_session: dict[str, list[int]] = defaultdict(list)
    for receipt in receipts:
        by_session[receipt.session].append(receipt.sequence)
    for sequence in by_session.values():
        assert sequence == list(range(len(sequence)))


def check_ranges(spans: list[Span], ends: dict[tuple[str, int], int]) -> None:
    """They join from 0 to where the group stands."""
    ranges: dict[tuple[str, int], list[Span]] = defaultdict(list)
    for span in spans:
        ranges[span.topic, span.partition].append(span)
    for place, found in ranges.items():
        found.sort(key=lambda span: span.start)
        assert found[0].start == 0
        assert found[-1].end == ends[place]
        for one, other in pairwise(found):
            assert one.end == other.start
    assert all(end == 0 or place in ranges for place, end in ends.items())
