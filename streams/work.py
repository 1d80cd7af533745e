"""The work of one transaction: which records are run, in which order, and what becomes of each.

The one rule: every record that goes in comes out as outputs, as a parked record or as a dead letter, in the same transaction.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Final

import msgspec

from streams.dead import DeadLetters
from streams.lanes import HELD, Cycle, Lane
from streams.parked import Parked, timer_of
from streams.process import Effects, Failure, Outcome, Processor, Verdict
from streams.record import Output, Record
from streams.stage import Stage
from streams.travel import event_id

_CRASHED = Failure("Crashed", "the process died on it three times", "Crashed")
_AHEAD: Final = 100  # records decoded ahead of their handlers: more fall out of the processor's cache again


class Crew(msgspec.Struct, frozen=True):
    """What a stage works with, whatever the transaction."""

    stage: Stage
    processor: Processor
    dead: DeadLetters
    effects: Effects | None

    @property
    def timers(self) -> frozenset[str]:
        """Topics of what the stage sends itself for later."""
        return self.processor.timers

    @property
    def asynchronous(self) -> bool:
        """Whether any handler may suspend."""
        return any(handler.asynchronous for handler in self.stage.handlers)


class Work:
    """One transaction's work. `probing`: the stage is held, and one record is to find out whether it may go on.

    `careful`: a marker names what is at hand, so of parked records no more may go than lanes are due.
    `outputs` do not hold the cycle's own writes. `away` is the failure of an `unavailable`: what came after it was parked.
    `crashed` are the places of condemned records that died here. The rest is for the receipt: `silent` are the records that
    were done without an output to a topic. For the metrics: `retried` attempts were not a record's first, `errors` are what
    records died of.
    """

    def __init__(
        self,
        crew: Crew,
        cycle: Cycle,
        *,
        probing: bool = False,
        careful: bool = False,
        condemned: frozenset[str] = frozenset(),
    ) -> None:
        self.cycle = cycle
        self.outputs: list[Output] = []
        self.verdicts: dict[Verdict, int] = {}
        self.away: Failure | None = None
        self.crashed: list[str] = []
        self.silent: list[Record] = []
        self.timers = self.dead = self.held = self.resolved = self.retried = 0
        self.errors: list[str] = []
        self._crew = crew
        self._timers = crew.timers
        self._probing = probing
        self._condemned = condemned
        self._careful = careful
        self._room = 1 if probing else crew.stage.batch  # parked records that may go in this transaction

    async def run(self, due: Sequence[Lane], records: Sequence[Record]) -> None:
        """The due lanes, then the records. Suspends only where an asynchronous handler does.

        Raises `Unavailable` when the store is away: then nothing of it has happened.
        """
        if self._probing:
            due = due[:1]
            self.park(records)
            records = ()
        elif self._careful:
            self._room = len(due)
        effects = self._crew.effects
        if effects is not None:
            known = [head.record for lane in due if (head := self.cycle.head(lane)) is not None]
            known += records
            partitions = sorted({record.partition for record in known})
            ids = [event_id(record) for record in known]
            with effects.batch(ids, self.cycle.now, partitions) as journal:
                processor = self._crew.processor
                processor.use(journal)
                try:
                    events = zip(known, ids, strict=True)
                    journal.expect(lambda: processor.events(filter(self._alive, events) if self._condemned else events))
                    await self._in_order(due, records)
                finally:
                    processor.use(None)
        elif self._crew.asynchronous:
            await self._side_by_side(due, records)
        else:
            await self._in_order(due, records)

    def _alive(self, event: tuple[Record, str]) -> bool:
        """Whether nobody has died of it: what kills may be its decoding."""
        return event[0].place not in self._condemned

    @cached_property
    def sent(self) -> Counter[str]:
        """How many outputs there are by topic, once all of it is done."""
        return Counter([output.topic for output in self.outputs])

    def park(self, records: Sequence[Record]) -> None:
        """Let records wait without an attempt."""
        for record in records:
            self.cycle.park(Parked(record, 0))

    async def _in_order(self, due: Sequence[Lane], records: Sequence[Record]) -> None:
        for lane in due:
            await self._drain(lane)
        if self._condemned:  # what kills may be its decoding
            for record in records:
                await self._one(record)
            return
        processor, now = self._crew.processor, self.cycle.now
        for start in range(0, len(records), _AHEAD):
            for ready in processor.read(records[start : start + _AHEAD]):
                record = ready[0]
                if not self._queued(record):
                    outcome = processor.start(ready, 1, now)
                    self._settle(record, outcome if isinstance(outcome, Outcome) else await outcome)

    async def _side_by_side(self, due: Sequence[Lane], records: Sequence[Record]) -> None:
        """As many lanes at once as there are slots, each in its own order."""
        chains: dict[Lane, list[Record]] = {lane: [] for lane in due}
        for record in records:
            chains.setdefault(self.cycle.lane(record), []).append(record)
        waiting = iter(chains.items())

        async def slot() -> None:
            for lane, chain in waiting:
                await self._drain(lane)
                for record in chain:
                    await self._one(record)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._crew.stage.slots, len(chains))):
                group.create_task(slot())

    async def _one(self, record: Record) -> None:
        """A new record: its turn, or its place in a lane."""
        if not self._queued(record):
            self._settle(record, await self._attempt(record, 1))

    def _queued(self, record: Record) -> bool:
        """Whether a new record has to wait; then it does by now."""
        if self.away is not None or self.cycle.blocks(record):
            self.cycle.park(Parked(record, 0))
            return True
        return False

    def _settle(self, record: Record, outcome: Outcome) -> None:
        """What becomes of a new record."""
        verdict = outcome.verdict
        self.verdicts[verdict] = self.verdicts.get(verdict, 0) + 1
        if verdict is Verdict.DONE:
            self._emit(record, outcome)
        elif verdict is Verdict.UNAVAILABLE:
            self.away = outcome.failure
            self.cycle.park(Parked(record, 0))
        else:
            self._failed(Parked(record, 0, attempt=1, first=self.cycle.now, failure=outcome.failure), outcome, None)

    async def _drain(self, lane: Lane) -> None:
        """The head of a lane if it is due, and whatever it set free."""
        cycle = self.cycle
        while self.away is None and self._room > 0 and (head := cycle.head(lane)) is not None:
            self._room -= 1
            self.retried += head.attempt > 0
            attempt = head.attempt + 1
            outcome = await self._attempt(head.record, attempt, head.case)
            self.verdicts[outcome.verdict] = self.verdicts.get(outcome.verdict, 0) + 1
            if outcome.verdict is Verdict.DONE:
                self._emit(head.record, outcome)
                if (resolved := self._crew.dead.resolve(head.case, cycle.now)) is not None:
                    self.outputs.append(resolved)
                    self.resolved += 1
                cycle.complete(lane)
            elif outcome.verdict is Verdict.UNAVAILABLE:
                self.away = outcome.failure
            else:
                first = head.first or cycle.now
                self._failed(
                    msgspec.structs.replace(head, attempt=attempt, first=first, failure=outcome.failure), outcome, lane
                )

    def _emit(self, source: Record, outcome: Outcome) -> None:
        """Send what a handler returned on its way: to topics, or for later to the stage's own table."""
        if not self._timers:
            self.outputs += outcome.outputs
            if not outcome.outputs:
                self.silent.append(source)
            return
        silent = True
        for output in outcome.outputs:
            if output.topic in self._timers:
                timer, due = timer_of(output, source.partition, self.cycle.now)
                if not self.cycle.blocks(timer):  # its place is its lane: it waits there already if the event came twice
                    self.cycle.park(Parked(timer, 0, due=due))
                    self.timers += 1
            else:
                self.outputs.append(output)
                silent = False
        if silent:
            self.silent.append(source)

    async def _attempt(self, record: Record, attempt: int, case: bytes = b"") -> Outcome:
        if self._condemned and record.place in self._condemned:
            self.crashed.append(record.place)
            return Outcome(Verdict.CRASHED, (), _CRASHED)
        return await self._crew.processor.run(record, attempt, self.cycle.now, case)

    def _failed(self, parked: Parked, outcome: Outcome, lane: Lane | None) -> None:
        """Park a failed record for its next attempt, or bury it. `lane` is that of a record that was parked already."""
        cycle, failure, stage = self.cycle, outcome.failure, self._crew.stage
        if outcome.verdict is Verdict.RETRY and parked.attempt < stage.retry.attempts:
            wait = failure.after if failure and failure.after is not None else None
            if wait is None:
                wait = stage.retry.delay(parked.attempt, event_id(parked.record))
            parked = msgspec.structs.replace(parked, due=cycle.now + wait)
        else:
            letter, case, encoded = self._crew.dead.bury(parked, outcome.verdict, cycle.now)
            self.outputs += (letter, case)
            self.dead += 1
            self.errors.append(failure.kind if failure else outcome.verdict.value)
            if stage.after_dead == "continue":
                if lane is not None:
                    cycle.complete(lane)
                return
            self.held += 1
            parked = msgspec.structs.replace(parked, due=HELD, case=encoded)
        if lane is None:
            cycle.park(parked)
        else:
            cycle.again(lane, parked)
