"""The cycle: poll, order, process, commit.

The one rule: everything that a cycle decided is in one transaction, and the lanes change only when that has happened.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec

from streams.dead import DeadLetters
from streams.errors import Aborted, Unavailable
from streams.gate import Gate
from streams.lanes import HELD, Cycle, Lane, Lanes, delay
from streams.parked import Parked
from streams.process import Effects, Failure, Outcome, Processor, Verdict, event_id
from streams.record import Output, Record
from streams.session import Place, Polled, Session
from streams.stage import Stage

log = logging.getLogger("towpath.engine")

IDLE: Final = 0.5  # seconds that a poll may wait when nothing is due

T = TypeVar("T")


class Block(Protocol):
    """Runs a blocking call somewhere and waits for it: on the session's thread, or in place in tests."""

    def __call__(self, call: Callable[..., T], /, *arguments: Any) -> Awaitable[T]:
        """The call's result."""
        ...


class _Work:
    """What one cycle collects for its transaction."""

    def __init__(self, cycle: Cycle) -> None:
        self.cycle = cycle
        self.outputs: list[Output] = []
        self.verdicts: dict[Verdict, int] = {}
        self.away: Failure | None = None


class Engine:
    """One stage at work on one session."""

    def __init__(  # noqa: PLR0913  # the parts of a stage, put together in one place: `worker.py`
        self,
        stage: Stage,
        session: Session,
        processor: Processor,
        lanes: Lanes,
        dead: DeadLetters,
        *,
        effects: Effects | None,
        clock: Callable[[], float],
        block: Block,
    ) -> None:
        self.stage = stage
        self.session = session
        self.lanes = lanes
        self.gate = Gate(stage, session)
        self.next: dict[Place, int] = {}
        self.totals: dict[str, int] = {"aborted": 0, **{verdict.value: 0 for verdict in Verdict}}
        self._lead = stage.topics[0]
        self._processor = processor
        self._dead = dead
        self._effects = effects
        self._clock = clock
        self._block = block
        self._asynchronous = any(handler.asynchronous for handler in stage.handlers)

    async def poll(self) -> list[Record]:
        """The next records, maybe none: also returns when a parked record is due."""
        until = self.gate.hold.probe if self.gate.hold else self.lanes.next_due()
        wait = until - self._clock()
        polled = await self._block(self.session.poll, self.stage.batch, min(max(wait, 0.0), IDLE))
        self._take(polled)
        return polled.records

    def due(self) -> bool:
        """Whether there is something to do without a new record."""
        until = self.gate.hold.probe if self.gate.hold else self.lanes.next_due()
        return until <= self._clock()

    @property
    def current(self) -> Record | None:
        """The record that a handler is at, or was at last in the cycle at work."""
        return self._processor.current

    async def handle(self, records: Sequence[Record]) -> None:
        """One transaction: what is due in the lanes, then `records` in their order."""
        now = self._clock()
        waiting = self.gate.hold is not None and self.gate.hold.probe > now
        if waiting and not records:
            return
        work = _Work(self.lanes.cycle(now))
        try:
            if waiting:
                _park(work, records)
            else:
                await self._run(work, records)
        except Unavailable as error:  # the store's: nothing that ran in its transaction has happened
            work = _Work(self.lanes.cycle(now))
            work.away = Failure("Unavailable", str(error), "Unavailable", error.after, error.dependency)
            _park(work, records)
        if (records or work.cycle.partitions) and not await self._commit(work, records):
            return
        if work.away is not None:
            self.gate.shut(work.away, now)
        elif not waiting:
            self.gate.open()
        self.gate.measure(self.lanes)

    async def _commit(self, work: _Work, records: Sequence[Record]) -> bool:
        offsets = self._offsets(records, work.cycle.partitions)
        try:
            await self._block(self.session.commit, work.outputs + work.cycle.writes, offsets)
        except Aborted as error:
            self.totals["aborted"] += 1
            log.warning("stage %s: a transaction of %d records did not happen: %s", self.stage.name, len(records), error)
            return False
        work.cycle.apply()
        self.next.update(offsets)
        for verdict, count in work.verdicts.items():
            self.totals[verdict.value] += count
        return True

    # -- what the session brings ----------------------------------------------------------------------------------------

    def _take(self, polled: Polled) -> None:
        for partition in polled.lost:
            self.lanes.lost(partition)
            self.gate.lost(partition)
            self.next = {place: offset for place, offset in self.next.items() if place[1] != partition}
        for record in polled.table:
            self.lanes.load(record)
        for claim in polled.gained:
            self.lanes.gained(claim.partition)
            self.gate.gained(claim.partition)
            self.next.update({(topic, claim.partition): offset for topic, offset in claim.offsets.items()})
        if polled.gained:
            self.gate.measure(self.lanes)
        if polled.gained or polled.lost:
            log.info("stage %s owns partitions %s", self.stage.name, sorted(self.gate.partitions))

    def _offsets(self, records: Sequence[Record], parked: set[int]) -> dict[Place, int]:
        """Where each source goes on. Parked work moves no offset, but its partition's is sent: that is what fences a zombie."""
        offsets = {(record.topic, record.partition): record.offset + 1 for record in records}
        for partition in parked:
            place = (self._lead, partition)
            offsets.setdefault(place, self.next[place])
        return offsets

    # -- one cycle ------------------------------------------------------------------------------------------------------

    async def _run(self, work: _Work, records: Sequence[Record]) -> None:
        due = work.cycle.due(self.stage.batch)
        if self.gate.hold:  # a probe: one record, and what a new partition brought waits behind it
            due = due[:1]
            _park(work, records)
            records = ()
        if self._effects is not None:
            step = self._with_store(work, due, records)
        elif self._asynchronous:
            step = self._side_by_side(work, due, records)
        else:
            step = self._in_order(work, due, records)
        try:
            if self._asynchronous:
                await step
            else:
                await self._block(_drive, step)
        finally:
            self._processor.current = None

    async def _with_store(self, work: _Work, due: Sequence[Lane], records: Sequence[Record]) -> None:
        """One database transaction for the batch; it is over before the Kafka transaction begins."""
        assert self._effects is not None  # noqa: S101  # the one caller asks
        heads = [head.record for lane in due if (head := work.cycle.head(lane)) is not None]
        with self._effects.batch([event_id(record) for record in (*heads, *records)], work.cycle.now) as journal:
            self._processor.use(journal)
            try:
                await self._in_order(work, due, records)
            finally:
                self._processor.use(None)

    async def _in_order(self, work: _Work, due: Sequence[Lane], records: Sequence[Record]) -> None:
        for lane in due:
            await self._drain(work, lane)
        for record in records:
            await self._one(work, record)

    async def _side_by_side(self, work: _Work, due: Sequence[Lane], records: Sequence[Record]) -> None:
        """As many lanes at once as there are slots, each in its own order."""
        chains: dict[Lane, list[Record]] = {lane: [] for lane in due}
        for record in records:
            chains.setdefault(self.lanes.lane(record), []).append(record)
        waiting = iter(chains.items())

        async def slot() -> None:
            for lane, chain in waiting:
                await self._drain(work, lane)
                for record in chain:
                    await self._one(work, record)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self.stage.slots, len(chains))):
                group.create_task(slot())

    async def _one(self, work: _Work, record: Record) -> None:
        """A new record: its turn, or its place in a lane."""
        if work.away is not None or work.cycle.blocks(record):
            work.cycle.park(Parked(record, 0))
            return
        outcome = await self._processor.run(record, 1, work.cycle.now)
        _count(work, outcome)
        if outcome.verdict is Verdict.DONE:
            work.outputs += outcome.outputs
        elif outcome.verdict is Verdict.UNAVAILABLE:
            work.away = outcome.failure
            work.cycle.park(Parked(record, 0))
        else:
            now = work.cycle.now
            self._failed(work, Parked(record, 0, attempt=1, first=now, failure=outcome.failure), outcome, None)

    async def _drain(self, work: _Work, lane: Lane) -> None:
        """The head of a lane if it is due, and whatever it set free."""
        cycle = work.cycle
        limit = 1 if self.gate.hold else self.stage.batch
        while work.away is None and limit > 0 and (head := cycle.head(lane)) is not None:
            limit -= 1
            attempt = head.attempt + 1
            outcome = await self._processor.run(head.record, attempt, cycle.now)
            _count(work, outcome)
            if outcome.verdict is Verdict.DONE:
                work.outputs += outcome.outputs
                if head.case:
                    work.outputs.append(self._dead.resolve(head.case, cycle.now))
                cycle.complete(lane)
            elif outcome.verdict is Verdict.UNAVAILABLE:
                work.away = outcome.failure
            else:
                failed = msgspec.structs.replace(head, attempt=attempt, first=head.first or cycle.now, failure=outcome.failure)
                self._failed(work, failed, outcome, lane)

    def _failed(self, work: _Work, parked: Parked, outcome: Outcome, lane: Lane | None) -> None:
        """Park a failed record for its next attempt, or bury it. `lane` is that of a record that was parked already."""
        cycle, failure = work.cycle, outcome.failure
        if outcome.verdict is Verdict.RETRY and parked.attempt < self.stage.retry.attempts:
            wait = failure.after if failure and failure.after is not None else None
            if wait is None:
                wait = delay(self.stage.retry, parked.attempt, event_id(parked.record))
            parked = msgspec.structs.replace(parked, due=cycle.now + wait)
        else:
            letter, case, encoded = self._dead.bury(parked, outcome.verdict, cycle.now)
            work.outputs += (letter, case)
            if self.stage.after_dead == "continue":
                if lane is not None:
                    cycle.complete(lane)
                return
            parked = msgspec.structs.replace(parked, due=HELD, case=encoded)
        if lane is None:
            cycle.park(parked)
        else:
            cycle.again(lane, parked)


def _park(work: _Work, records: Sequence[Record]) -> None:
    for record in records:
        work.cycle.park(Parked(record, 0))


def _count(work: _Work, outcome: Outcome) -> None:
    work.verdicts[outcome.verdict] = work.verdicts.get(outcome.verdict, 0) + 1


def _drive(step: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that never suspends: synchronous handlers, on the session's thread."""
    try:
        step.send(None)
    except StopIteration:
        return
    step.close()
    raise RuntimeError("a synchronous stage was suspended")
