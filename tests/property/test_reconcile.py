"""Reconciling whatever Hypothesis thinks of: no difference after kills and aborts, and each injected fault found.

The one rule: what is injected is known, and so is what has to be found: its kind, its id, and nothing else.
"""

import tempfile
from typing import Any, Final

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from streams import names
from streams.codec import Codec
from streams.receipts import Receipt
from streams.record import CAUSE, Record, event_info
from streams.registry import FolderRegistry
from streams.travel import event_id
from tests.property.test_orders_flow import IDS, Shop, moods, moves
from tests.support.reconciling import Copy, copied, judged
from topologies.orders import orders as flow

EMITTED: Final = sorted({event_info(cls).topic for stage in flow.stages for cls in stage.emits})
SOURCES: Final = sorted(event_info(cls).topic for cls in flow.sources)
RECEIPTS: Final = names.receipts("orders")
FAULTS: Final = st.tuples(st.sampled_from(["truncate", "double", "foreign", "receipt", "back"]), st.integers(0, 10**6))


@settings(max_examples=12, deadline=None)
@given(st.lists(moves, min_size=3, max_size=12), moods, FAULTS)
def test_what_is_injected_is_found_and_nothing_else(
    story: list[tuple[str, Any]], moods: list[str], fault: tuple[str, int]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        shop = Shop(directory, moods)
        try:
            for what, about in [*[("submit", order_id) for order_id in IDS], *story]:
                shop.act(what, about)
            for _ in range(12):
                shop.rest(30)
            copy = copied(shop.flow)
            clean = judged(shop.flow, copy, databases=[shop.url])
            assert clean.differences == []
            assert clean.unknown == {}
            expected = inject(copy, *fault)
            found = judged(shop.flow, copy)
            check(found.differences, expected)
        finally:
            shop.flow.close()
            shop.inbox.close()


def check(differences: list[Any], expected: tuple[str, set[str]] | None) -> None:
    if expected is None:
        assert differences == []
        return
    kind, ids = expected
    assert {difference.kind for difference in differences} == {kind}
    named = {known for difference in differences for known in difference.ids}
    assert named <= ids
    if kind != "lost":
        assert len(differences) == 1


def inject(copy: Copy, what: str, seed: int) -> tuple[str, set[str]] | None:
    """Make a fault. Its kind and the ids that may be named for it; `None` if nothing can be known of it."""
    match what:
        case "truncate":
            return truncate(copy, seed)
        case "double":
            record = chosen([r for topic in (*EMITTED, *SOURCES) for r in copy.topics[topic]], seed)
            copy.add(msgspec.structs.replace(record, headers=(("id", event_id(record).encode()), *headers(record))))
            return "doubled", {event_id(record)}
        case "foreign":
            record = chosen([r for topic in EMITTED for r in copy.topics[topic]], seed)
            added = copy.add(msgspec.structs.replace(record, headers=(("id", b"%032x" % seed),)))
            return "foreign", {event_id(added)}
        case "back":
            group, place = chosen(
                [(g, p) for g, places in sorted(copy.committed.items()) for p, at in sorted(places.items()) if at > 0], seed
            )
            copy.committed[group][place] -= 1
            at = copy.committed[group][place]
            return "overlap", {f"{at}-{at}"}
    decode = Codec([Receipt], FolderRegistry(flow.schemas)).decoder(Receipt)
    receipts = [(record, decode(record.value)) for record in copy.topics[RECEIPTS]]
    last: dict[str, int] = {}
    for _, receipt in receipts:
        last[receipt.session] = max(receipt.sequence, last.get(receipt.session, 0))
    record, receipt = chosen([(r, told) for r, told in receipts if told.sequence < last[told.session]], seed)
    copy.topics[RECEIPTS].remove(record)
    return "receipt-missing", {f"{receipt.session}#{receipt.sequence}"}


def truncate(copy: Copy, seed: int) -> tuple[str, set[str]] | None:
    """Delete the beginning of a partition, as somebody might by hand."""
    record = chosen([r for topic in (*EMITTED, *SOURCES) for r in copy.topics[topic]], seed)
    before = copy.topics[record.topic]
    copy.delete(record.topic, record.partition, record.offset + 1)
    if record.topic in SOURCES:
        return None
    gone = [r for r in before if r not in copy.topics[record.topic]]
    causes = {(dict(r.headers)[CAUSE] or b"").decode() for r in gone}
    return "lost", {*causes, *map(event_id, gone), record.topic}


def headers(record: Record) -> tuple[tuple[str, bytes | None], ...]:
    return tuple(header for header in record.headers if header[0] != "id")


def chosen(of: list[Any], seed: int) -> Any:
    return of[seed % len(of)]
