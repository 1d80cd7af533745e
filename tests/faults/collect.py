"""What there is to be known of a run, collected as a history for `streams.history`.

The one rule: no worker is asked. Everything comes from plain readers of the topics, from the groups' offsets, or from the books
outside.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

import psycopg
from confluent_kafka import Consumer, IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from streams.history import Balance, Effect, History, Letter, Part, Place, Seen, Waiting
from streams.record import Record, event_info
from streams.travel import event_id
from tests.faults.tap import Tap
from tests.support.contracts import Contracts
from tests.support.flow import header
from tests.support.psp import Psp
from tests.support.workers import ROOT
from topologies.orders import orders

RECEIPTS: Final = "orders.receipts"
TOLD: Final = "notifications.sent"
EVENTS: Final = tuple(event_info(cls).topic for cls in orders.events)
TABLES: Final = tuple(f"orders.{stage.name}.retry" for stage in orders.stages)
DLQS: Final = tuple(f"orders.{stage.name}.dlq" for stage in orders.stages)
TOPICS: Final = (*EVENTS, *TABLES, *DLQS, RECEIPTS)
PARTS: Final = tuple(
    Part(stage.name, stage.topics, tuple(event_info(cls).topic for cls in stage.emits), ordered=stage.order != "none")
    for stage in orders.stages
)
SINGLE: Final = frozenset(EVENTS) - {"notifications.requested"}
CONTRACTS: Final = Contracts(ROOT / "schemas")
Marks = dict[tuple[str, int], int]


def ends(reader: Tap) -> Marks:
    """After the last record of each partition that has come.

    Receipts, the last of `TOPICS`, first: one that comes meanwhile is not left out beside the input that it speaks of.
    """
    return {(topic, record.partition): record.offset + 1 for topic in reversed(TOPICS) for record in reader.records[topic]}


def committed(bootstrap: str, partitions: int) -> dict[tuple[str, str, int], int]:
    """Where each group stands, by stage, topic and partition."""
    found: dict[tuple[str, str, int], int] = {}
    for stage in orders.stages:
        consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": f"orders.{stage.name}", "log_level": 0})
        try:
            places = [TopicPartition(topic, number) for topic in stage.topics for number in range(partitions)]
            for place in consumer.committed(places, 20):
                found[stage.name, place.topic, place.partition] = max(place.offset, 0)
        finally:
            consumer.close()
    return found


def behind(reader: Tap, offsets: Mapping[tuple[str, str, int], int]) -> list[str]:
    """What stages have not read, or have parked (but for what they have sent themselves for later)."""
    last = ends(reader)
    found = [
        f"{stage} is at {at} of {topic}[{partition}], which has {last[topic, partition]}"
        for (stage, topic, partition), at in offsets.items()
        if at < last.get((topic, partition), 0)
    ]
    return found + [f"{waiting.stage} has parked {waiting.origin}" for waiting in parked(reader)]


def open_transactions(bootstrap: str) -> list[str]:
    """Where committed readers do not get to the end yet.

    A transaction's markers come to each partition by themselves: a group's offsets may be committed, and the receipt not yet.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    known = admin.list_topics(timeout=20).topics
    places = [TopicPartition(topic, number) for topic in TOPICS for number in known[topic].partitions]
    ends_ = []
    for isolation in (IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED):
        answers = admin.list_offsets(dict.fromkeys(places, OffsetSpec.latest()), isolation_level=isolation, request_timeout=20)
        ends_.append({place: answer.result().offset for place, answer in answers.items()})
    stable, all_ = ends_
    return [f"{at.topic}[{at.partition}] is open from {stable[at]} to {all_[at]}" for at in places if stable[at] < all_[at]]


def parked(reader: Tap) -> list[Waiting]:
    """What the tables hold, but for timers: these have no place on a topic."""
    found = []
    for stage, table in zip(orders.stages, TABLES, strict=True):
        last = {record.key: record for record in reader.records[table]}
        for record in last.values():
            origin = _place(record.key)
            if record.value is not None and origin[2] >= 0:
                found.append(Waiting(stage.name, "", origin))
    return found


def history(committed_: Tap, uncommitted: Tap, offsets: Mapping[tuple[str, str, int], int], start: Marks) -> History:
    """What has happened since `start`."""
    records = list(_seen(committed_, uncommitted, start))
    letters = [
        Letter(stage.name, event_id(_record(record)), _place(header(record, "dead-origin")))
        for stage, topic in zip(orders.stages, DLQS, strict=True)
        for record in committed_.records[topic]
    ]
    keys = {seen.key for seen in records if seen.topic == "orders.submitted" and seen.key is not None}
    return History(
        parts=PARTS,
        records=records,
        letters=letters,
        waiting=parked(committed_),
        committed=offsets,
        silent=_silent(committed_, start),
        ends=dict.fromkeys(keys, frozenset({TOLD})),
        single=SINGLE,
        timers=_timers(committed_),
    )


def _seen(committed_: Tap, uncommitted: Tap, start: Marks) -> Iterator[Seen]:
    """Each record once; one that only the other reader has was in a transaction that was aborted."""
    for topic in EVENTS:
        there = {(record.partition, record.offset) for record in committed_.records[topic]}
        undone = [r for r in uncommitted.records[topic] if (r.partition, r.offset) not in there]
        for records, true in ((committed_.records[topic], True), (undone, False)):
            for record in records:
                if record.offset >= start.get((topic, record.partition), 0):
                    cause = (header(record, "cause") or b"").decode()
                    yield Seen(topic, record.partition, record.offset, record.key, event_id(_record(record)), cause, true)


def _silent(reader: Tap, start: Marks) -> frozenset[tuple[str, Place]]:
    found = set()
    for record in reader.records[RECEIPTS]:
        receipt = CONTRACTS.decode(record.value)
        for span in receipt["silent"]:
            topic, partition = span["topic"], span["partition"]
            if span["end"] > start.get((topic, partition), 0):
                found |= {(receipt["stage"], (topic, partition, offset)) for offset in range(span["start"], span["end"])}
    return frozenset(found)


def _timers(reader: Tap) -> frozenset[str]:
    """The ids of what stages have sent themselves for later."""
    found = set()
    for table in TABLES:
        for record in reader.records[table]:
            if record.value is not None and _place(record.key)[2] < 0:
                found.add((header(record, "id") or b"").decode())
    return frozenset(found)


def _place(text: bytes | None) -> Place:
    topic, partition, offset = (text or b"").decode().rsplit("/", 2)
    return topic, int(partition), int(offset)


def _record(record: Any) -> Record:
    """As the runtime sees it: only to derive the id of one that has none."""
    return Record(record.topic, record.partition, record.offset, record.key, record.value, tuple(record.headers), 0)


# -- outside ------------------------------------------------------------------------------------------------------------


def effects(psp: Psp) -> list[Effect]:
    """What money moved, by the provider's own ledger."""
    return [
        Effect(kind, order_id)
        for kind in ("capture", "refund")
        for order_id, amounts in psp.moves(kind).items()
        for _ in amounts
    ]


def balances(reader: Tap, psp: Psp, store: psycopg.Connection[Any], seeded: Mapping[str, int]) -> list[Balance]:
    """Money: what the events say against the ledger. Stock: what was there, less what is reserved and not given back.

    An order with a dead letter is half done until an operator comes: its money and the skus that it asked for are left out.
    """
    dead = {(record.key or b"").decode("utf-8", "replace") for topic in DLQS for record in reader.records[topic]}
    found = []
    for topic, kind in (("payments.captured", "capture"), ("payments.refunded", "refund")):
        said: Counter[str] = Counter()
        for record in reader.records[topic]:
            event = CONTRACTS.decode(record.value)
            said[event["order_id"]] += event["total_minor"] * (event["order_id"] not in dead)
        moved = {order_id: sum(amounts) for order_id, amounts in psp.moves(kind).items() if order_id not in dead}
        found.append(Balance(f"{kind} in all", sum(said.values()), sum(moved.values())))
        wrong = [order_id for order_id in said.keys() | moved.keys() if said[order_id] != moved.get(order_id, 0)]
        found += [Balance(f"{kind} of order {order_id}", said[order_id], moved.get(order_id, 0)) for order_id in wrong]
    held: Counter[str] = Counter()
    for topic, sign in (("inventory.reserved", 1), ("inventory.released", -1)):
        for record in reader.records[topic]:
            for line in CONTRACTS.decode(record.value)["demand"]:
                held[line["sku"]] += sign * line["quantity"]
    accepted = [CONTRACTS.decode(record.value) for record in reader.records["orders.accepted"]]
    half = {line["sku"] for order in accepted if order["order_id"] in dead for line in order["demand"]}
    levels = [row for row in store.execute("SELECT sku, on_hand, reserved FROM stock") if row[0] not in half]
    for sku, on_hand, reserved in levels:
        if (on_hand, reserved) != (seeded[sku] - held[sku], 0):
            found += [Balance(f"{sku} on hand", seeded[sku] - held[sku], on_hand), Balance(f"{sku} reserved", 0, reserved)]
    left = sum(count - held[sku] for sku, count in seeded.items() if sku not in half)
    found.append(Balance("units on hand", left, sum(row[1] for row in levels)))
    return found
