"""Reconciling a story in memory: its records are lists that a test may change before they are judged.

The one rule: what is judged is what a reader of the topics would have got, after the faults and nothing else.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from streams.ops.reconcile.findings import Result
from streams.ops.reconcile.judge import judge
from streams.ops.reconcile.ledger import Ledger
from streams.record import Record
from streams.session import Place
from streams.testing import Simulation

Topics = dict[str, list[Record]]


class Copy(msgspec.Struct):
    """The topics of a flow as they are read, and where each place begins and ends."""

    topics: Topics
    starts: dict[Place, int]
    ends: dict[Place, int]
    committed: dict[str, dict[Place, int]]

    def delete(self, topic: str, partition: int, before: int) -> None:
        """What `delete_records` does."""
        self.starts[topic, partition] = before
        self.topics[topic] = [r for r in self.topics[topic] if r.partition != partition or r.offset >= before]

    def add(self, record: Record) -> Record:
        """What a foreign producer does; the record's offset is where the partition ends."""
        end = self.ends[record.topic, record.partition]
        record = msgspec.structs.replace(record, offset=end)
        self.ends[record.topic, record.partition] = end + 1
        self.topics[record.topic].append(record)
        return record


def copied(flow: Simulation) -> Copy:
    """The topics as they are now."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(flow.topology, Path(folder))
        names = list(ledger.read)
        ledger.close()
    ends = {(topic, number): end for topic in names for number, end in flow.broker.end_offsets(topic).items()}
    groups = {f"{flow.topology.name}.{stage.name}" for stage in flow.topology.stages}
    committed = {group: dict(flow.broker.committed(group)) for group in groups}
    return Copy({topic: flow.broker.read(topic) for topic in names}, dict.fromkeys(ends, 0), ends, committed)


def judged(
    flow: Simulation,
    copy: Copy,
    *,
    keeps: Mapping[str, float] | None = None,
    databases: Sequence[str] = (),
    statements: Sequence[Path] = (),
) -> Result:
    """What reconciling makes of it."""
    now = int(flow.clock.now() * 1000)
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(flow.topology, Path(folder), databases, statements)
        ledger.taken_at = now + 60_000
        if flow.topology.books is not None and (databases or statements):
            flow.topology.books.load(ledger)
        ledger.bounds(copy.starts, copy.ends)
        for records in copy.topics.values():
            ledger.take(records)
        result = judge(ledger, now, keeps=keeps, before=copy.committed, after=copy.committed)
        ledger.close()
        return result
