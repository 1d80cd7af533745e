"""The judgement of a run that has come to its end: the history's, the receipts', the cases', and the world's.

The one rule: it believes nothing that the runtime says of itself without holding it against what is on the topics.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from streams import history, names
from streams.dead import Case, State, unbury
from streams.history import History, Letter, Part, Seen, Waiting
from streams.memory.broker import MemoryBroker
from streams.parked import parse
from streams.receipts import Receipt, Span
from streams.record import CAUSE, Record, event_info
from streams.simulator.kit import Kit
from streams.travel import event_id

if TYPE_CHECKING:
    from streams.simulator.machine import Machine

E = TypeVar("E")


class Finding(msgspec.Struct, frozen=True):
    """What cannot be so. `kind` is one of the history's, or: stuck, broken, unread, waiting, receipt, case, id."""

    kind: str
    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: {self.text}"


def judge(machine: "Machine", *, settled: bool) -> list[Finding]:
    """Everything that is wrong with a run."""
    broken = [Finding("broken", type(error).__name__, repr(error)) for error in (*machine.broken, *machine.loop.trouble)]
    if not settled:
        who = ", ".join(f"{worker.name} at {worker.point!r}" for worker in machine.workers[:6])
        return [*broken, Finding("stuck", machine.kit.topology.name, f"it does not come to rest: {who}")]
    ending = _Ending(machine)
    found: list[Finding] = broken
    for look in (_unread, _waiting, _receipts, _cases, _ids):
        found += look(ending)
    judged = machine.world.judge(ending)
    ends = {key.encode(): {event_info(cls).topic for cls in classes} for key, classes in judged.ends.items()}
    whole = msgspec.structs.replace(ending.history, effects=judged.effects, balances=judged.balances, ends=ends)
    found += (Finding(anomaly.kind, anomaly.where, anomaly.text) for anomaly in history.check(whole))
    return found


class _Ending:
    """What is there at the end, read once; see `workload.Ending`."""

    def __init__(self, machine: "Machine") -> None:
        kit: Kit = machine.kit
        self.machine = machine
        self.kit = kit
        self.broker: MemoryBroker = machine.broker
        self.topology = kit.topology
        name = self.topology.name
        decode: Any = kit.codec.decoder(Case)
        found = [decode(record.value) for record in self.broker.read(names.cases(name))]
        self.cases: Sequence[Case] = list({case.case_id: case for case in found}.values())
        decode = kit.codec.decoder(Receipt)
        self.receipts: list[Receipt] = [decode(record.value) for record in self.broker.read(names.receipts(name))]
        self.letters = {stage.name: self.broker.read(names.dlq(name, stage.name)) for stage in self.topology.stages}
        self.committed = {
            (stage.name, topic, partition): offset
            for stage in self.topology.stages
            for (topic, partition), offset in self.broker.committed(names.group(name, stage.name)).items()
        }
        self._events: dict[type, list[Any]] = {}
        self.history = self._history()

    def outputs(self, event: type[E]) -> list[E]:
        """See `workload.Ending`."""
        if event not in self._events:
            decode = self.kit.codec.decoder(event)
            self._events[event] = [decode(record.value) for record in self.broker.read(event_info(event).topic)]
        return list(self._events[event])

    def rows(self, statement: Any) -> list[tuple[Any, ...]]:
        """See `workload.Ending`."""
        with self.kit.disk.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(statement)]

    def _history(self) -> History:
        stages = self.topology.stages
        topics = dict.fromkeys(event_info(cls).topic for stage in stages for cls in (*stage.consumes, *stage.emits))
        return History(
            parts=[
                Part(s.name, s.topics, tuple(event_info(cls).topic for cls in s.emits), ordered=s.order == "key")
                for s in stages
            ],
            records=[_seen(*each) for topic in topics for log in self.broker.logs(topic) for each in log.history()],
            letters=[
                Letter(stage, event_id(letter), _origin(ours["dead-origin"]))
                for stage, letters in self.letters.items()
                for letter in letters
                if (ours := unbury(letter)[1])
            ],
            waiting=[waiting for stage in stages for waiting in self._waiting(stage.name)],
            handled=[
                history.Handled(worker.stage.name, worker.name, (record.topic, record.partition, record.offset))
                for worker, records in self.machine.given
                for record in records
            ],
            committed=self.committed,
            silent={
                (receipt.stage, (span.topic, span.partition, offset))
                for receipt in self.receipts
                for span in receipt.silent
                for offset in range(span.start, span.end)
            },
            redriven={case.event_id for case in self.cases if any(step.what == "redriven" for step in case.decisions)},
            single={event_info(cls).topic for cls in self.kit.workload.single},
            timers=self.machine.timers,
        )

    def _waiting(self, stage: str) -> Iterator[Waiting]:
        last = {record.key: parse(record)[1] for record in self.broker.read(names.retry(self.topology.name, stage))}
        for parked in last.values():
            if parked is not None:
                record = parked.record
                yield Waiting(stage, event_id(record), (record.topic, record.partition, record.offset))


def _seen(record: Record, committed: bool) -> Seen:
    cause = b""
    for name, value in record.headers:
        if name == CAUSE:
            cause = value or b""
            break
    return Seen(record.topic, record.partition, record.offset, record.key, event_id(record), cause.decode(), committed)


def _origin(text: str) -> history.Place:
    topic, partition, offset = text.rsplit("/", 2)
    return (topic, int(partition), int(offset))


# -- laws of the runtime that are no history's -----------------------------------------------------------------------------


def _unread(ending: _Ending) -> Iterator[Finding]:
    """At rest nothing is left to be read."""
    for part in ending.history.parts:
        for topic in part.inputs:
            for log in ending.broker.logs(topic):
                at = ending.committed.get((part.name, topic, log.partition), 0)
                if left := log.read(at, 1)[0]:
                    yield Finding("unread", f"{topic}[{log.partition}]@{left[0].offset}", f"{part.name} stopped at {at}")


def _waiting(ending: _Ending) -> Iterator[Finding]:
    """At rest nothing waits but what is held for a decision."""
    holds = {stage.name for stage in ending.topology.stages if stage.after_dead == "hold"}
    for waiting in ending.history.waiting:
        if waiting.stage not in holds:
            yield Finding("waiting", history._name(waiting.origin), f"it is on the retry topic of {waiting.stage} for ever")
    for worker in ending.machine.workers:
        count = sum(number for number, _ in worker.engine.lanes.parked().values())
        if count and worker.stage.name not in holds:
            yield Finding("waiting", worker.name, f"{count} records wait in its memory for ever")


def _receipts(ending: _Ending) -> Iterator[Finding]:
    """Each adds up, those of a session count up, and their ranges join from 0 to where the group stands."""
    sequences: dict[str, list[int]] = defaultdict(list)
    ranges: dict[tuple[str, str, int], list[Span]] = defaultdict(list)
    for each in ending.receipts:
        ours, theirs = each.consumed + each.parked_out, each.verdicts.get("done", 0) + each.dead - each.held + each.parked_in
        if ours != theirs:
            yield Finding("receipt", f"{each.session} {each.sequence}", f"{ours} in, {theirs} out")
        sequences[each.session].append(each.sequence)
        for span in each.ranges:
            ranges[each.stage, span.topic, span.partition].append(span)
    for session, numbers in sequences.items():
        if numbers != list(range(len(numbers))):
            yield Finding("receipt", session, f"its receipts are not numbered from 0 upwards: {numbers[:20]}")
    for place, at in ending.committed.items():
        spans = sorted(ranges[place], key=lambda span: span.start)
        ends = [(0, 0), *((span.start, span.end) for span in spans), (at, at)]
        for (_, one), (other, _) in pairwise(ends):
            if one != other:
                yield Finding(
                    "receipt", f"{place[1]}[{place[2]}]", f"a receipt of {place[0]} ends at {one}, the next begins at {other}"
                )


def _cases(ending: _Ending) -> Iterator[Finding]:
    """Each death is in a letter, in its case and in a receipt; a case is resolved by nothing but a success."""
    dead = Counter(unbury(letter)[1].get("dead-case", "") for letters in ending.letters.values() for letter in letters)
    parts = {part.name: set(part.outputs) for part in ending.history.parts}
    caused: dict[str, set[str]] = defaultdict(set)
    for seen in ending.history.records if ending.cases else ():
        if seen.committed and seen.cause:
            caused[seen.cause].add(seen.topic)
    for case in ending.cases:
        told = Counter(step.what for step in case.decisions)
        if told["died"] != dead.pop(case.case_id, 0):
            yield Finding("case", case.case_id, f"it tells of {told['died']} deaths, and there are others on the dlq")
        if case.state is State.REDRIVEN:
            yield Finding("case", case.case_id, f"{case.stage} never said what became of its redrive")
        silent = (case.stage, (case.topic, case.partition, case.offset)) in ending.history.silent
        done = silent or bool(caused[case.event_id] & parts[case.stage])
        timer = case.offset < 0  # what a stage sends itself for later tells of no silence that is anybody's place
        if case.state is State.RESOLVED and not (done or timer):
            yield Finding("case", case.case_id, f"it is resolved, and nothing came of it at {case.stage}")
    if dead:
        yield Finding("case", ", ".join(dead), "a dead letter without a case")
    counts = {
        "died": sum(receipt.dead for receipt in ending.receipts),
        "resolved": sum(receipt.resolved for receipt in ending.receipts),
    }
    for what, count in counts.items():
        found = sum(step.what == what for case in ending.cases for step in case.decisions)
        if found != count:
            yield Finding("case", what, f"{count} times by the receipts, {found} times by the cases")


def _ids(ending: _Ending) -> Iterator[Finding]:
    """Whatever a stage made of an event in an attempt that was undone has the ids that it has in the end."""
    writers = {topic: part.name for part in ending.history.parts for topic in part.outputs}
    tried: dict[tuple[str, str], set[str]] = defaultdict(set)
    made: dict[tuple[str, str], set[str]] = defaultdict(set)
    for seen in ending.history.records:
        if seen.cause and not seen.committed:
            tried[writers.get(seen.topic, ""), seen.cause].add(seen.id)
    for seen in ending.history.records if tried else ():
        if seen.cause and seen.committed:
            made[writers.get(seen.topic, ""), seen.cause].add(seen.id)
    for place, ids in tried.items():
        if made[place] and not (ids <= made[place] or made[place] <= ids):
            yield Finding("id", place[1], f"{place[0]} made {sorted(ids)} of it, and then {sorted(made[place])}")
