"""The cycle: poll, order, process, commit.

The one rule: everything that a cycle decided is in one transaction, and the lanes change only when that has happened.
"""

import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

from streams.dead import DeadLetters
from streams.deaths import RUN, Deaths
from streams.errors import Aborted, Conflict, Fenced, Unavailable
from streams.gate import Gate
from streams.lanes import Lane, Lanes
from streams.process import Effects, Failure, Processor, Verdict
from streams.receipts import Receipts
from streams.record import Record
from streams.session import Place, Polled, Session
from streams.stage import Stage
from streams.tally import Tally
from streams.work import Crew, Work

log = logging.getLogger("towpath.engine")

IDLE: Final = 0.5  # seconds that a poll may wait when nothing is due
_CHANCES: Final = 5  # runs of one batch that the database may undo for the sake of other transactions
_REFUSED: Final = 20  # transactions in a row that may come to nothing; a rebalance costs one or two

T = TypeVar("T")


class Block(Protocol):
    """Runs a blocking call somewhere and waits for it: on the session's thread, or in place in tests."""

    def __call__(self, call: Callable[..., T], /, *arguments: Any) -> Awaitable[T]:
        """The call's result."""
        ...


class Engine:
    """One stage at work on one session. `next` says where each source goes on after the last commit."""

    def __init__(  # noqa: PLR0913  # the parts of a stage, put together in one place: `worker.py`
        self,
        stage: Stage,
        session: Session,
        processor: Processor,
        table: str,
        dead: DeadLetters,
        receipts: Receipts,
        *,
        effects: Effects | None,
        clock: Callable[[], float],
        block: Block,
        tally: Tally | None = None,
    ) -> None:
        self.stage = stage
        self.session = session
        self.lanes = Lanes(table, session.token, stage.order, processor.timers)
        self.gate = Gate(stage, session)
        self.next: dict[Place, int] = {}
        self.totals: dict[str, int] = {"aborted": 0, **{verdict.value: 0 for verdict in Verdict}}
        self.tally = tally or Tally()
        self._lead = stage.topics[0]
        self._processor = processor
        self._receipts = receipts
        self._crew = Crew(stage, processor, dead, effects)
        self._asynchronous = self._crew.asynchronous
        self._deaths = Deaths(stage.batch)
        self._refused = 0
        self._clock = clock
        self._block = block

    async def poll(self) -> list[Record]:
        """The next records, maybe none: also returns when a parked record is due."""
        wait = self._wake() - self._clock()
        polled = await self._block(self.session.poll, self.stage.batch, min(max(wait, 0.0), IDLE))
        self._take(polled)
        return polled.records

    def due(self) -> bool:
        """Whether there is something to do without a new record."""
        now = self._clock()
        return self._wake() <= now or self._deaths.forgettable(now)

    @property
    def current(self) -> Record | None:
        """The record that a handler is at, or was at last in the cycle at work."""
        return self._processor.current

    def state(self) -> dict[str, Any]:
        """What it owns, what waits, and what came of the records, for the health page."""
        hold = self.gate.hold
        return {
            "partitions": sorted(self.gate.partitions),
            "paused": sorted(self.gate.full),
            "parked": sum(count for count, _ in self.lanes.parked().values()),
            "waits_for": hold and {"dependency": hold.dependency, "reason": hold.reason, "since": hold.since},
            "records": self.totals,
        }

    async def handle(self, records: Sequence[Record]) -> None:
        """What is due in the lanes, then `records` in their order: one transaction, unless processes have died of them."""
        self._deaths.forget(self._clock())
        if self._deaths.pending and not await self._commit_markers(self._deaths.pending):
            return
        self._deaths.pending.clear()
        if self._deaths.careful:
            await self._handle_in_groups(records)
        else:
            await self._handle(None, records)

    async def _handle(self, due: Sequence[Lane] | None, records: Sequence[Record]) -> bool:
        """One transaction; `due` says which lanes, `None`: all that are due. Whether it happened."""
        now = self._clock()
        hold = self.gate.hold
        waiting = hold is not None and hold.probe > now
        if waiting and not records:
            return True
        if waiting:
            work = self._work(now)
            work.park(records)
        else:
            work = await self._try(due, records, now)
        if (records or work.cycle.partitions) and not await self._commit(work, records):
            return False
        if work.away is not None:
            if hold is None:
                self.tally.holds.add(work.away.dependency)
            self.gate.shut(work.away, now)
        elif not waiting:
            self.gate.open()
        self.gate.measure(self.lanes)
        return True

    async def _try(self, due: Sequence[Lane] | None, records: Sequence[Record], now: float) -> Work:
        """Run the work, and again if the database undid it for another's sake; while the store is away, park it all."""
        chances = _CHANCES
        while True:
            work = self._work(now)
            try:
                await self._run(work, work.cycle.due(self.stage.batch) if due is None else due, records)
            except Unavailable as error:
                chances -= 1
                if isinstance(error, Conflict) and chances:
                    continue  # the other one is through by now
                work = Work(self._crew, self.lanes.cycle(now))
                work.away = Failure("Unavailable", str(error), "Unavailable", error.after, error.dependency)
                work.park(records)
            return work

    def _work(self, now: float) -> Work:
        return Work(
            self._crew,
            self.lanes.cycle(now),
            probing=self.gate.hold is not None,
            careful=self._deaths.careful,
            condemned=self._deaths.condemned,
        )

    async def _handle_in_groups(self, records: Sequence[Record]) -> None:
        """Few lanes and records in a transaction, with a marker before it that says which they are."""
        cycle = self.lanes.cycle(self._clock())
        due = [(lane, head.record) for lane in cycle.due(self.stage.batch) if (head := cycle.head(lane)) is not None]
        lanes = [lane for lane, _ in due]
        rest: Sequence[Record] = [*(record for _, record in due), *records]
        if not rest:  # there may be a probe to make: with nothing to try, it opens the gate
            await self._handle([], [])
        while rest:
            group = self._deaths.group(rest)
            mine, new = lanes[: len(group)], group[len(lanes) :]
            markers = self._deaths.markers(group)
            if markers and not await self._commit_markers(markers):
                return
            if not await self._handle(mine, new):
                return
            if self.gate.hold is None:  # else they wait, and are still to come
                self._deaths.through(new)
            lanes, rest = lanes[len(mine) :], rest[len(group) :]

    async def _run(self, work: Work, due: Sequence[Lane], records: Sequence[Record]) -> None:
        """Synchronous handlers run on the session's thread, so that the event loop stays free to tell of a stuck one."""
        try:
            if self._asynchronous:
                await work.run(due, records)
            else:
                await self._block(_drive, work.run(due, records))
        finally:
            self._processor.current = None

    # -- transactions ---------------------------------------------------------------------------------------------------

    async def _commit(self, work: Work, records: Sequence[Record]) -> bool:
        began = self._clock()
        offsets = {(record.topic, record.partition): record.offset + 1 for record in records}
        for partition in work.cycle.partitions | {record.partition for record in records}:
            # Parked work moves no offset, but its partition's is sent: that is what fences a zombie. The marker is there too.
            place = (self._lead, partition)
            offsets.setdefault(place, self.next[place])
        moved = {place: (self.next[place], offset) for place, offset in offsets.items()}
        receipt = self._receipts.write(self.session.token, work, len(records), moved)
        try:
            await self._block(self.session.commit, [*work.outputs, *work.cycle.writes, receipt], offsets, RUN)
        except Aborted as error:
            self._aborted(error)
            return False
        self._refused = 0
        self._receipts.kept()
        work.cycle.apply()
        for crashed in work.crashed:
            self._deaths.buried(crashed)
        self.next.update(offsets)
        for verdict, count in work.verdicts.items():
            self.totals[verdict.value] += count
        self.tally.committed(work, records, receipt, (began, self._clock()))
        return True

    async def _commit_markers(self, markers: Mapping[int, str]) -> bool:
        for marker in sorted(set(markers.values())):
            places = [(self._lead, partition) for partition, text in markers.items() if text == marker]
            try:
                await self._block(self.session.commit, [], {place: self.next[place] for place in places}, marker)
            except Aborted as error:
                self._aborted(error)
                return False
        return True

    def _aborted(self, error: Aborted) -> None:
        self.totals["aborted"] += 1
        self._refused += 1
        if self._refused > _REFUSED:  # an output topic is gone or takes no record of this size: waiting does not mend that
            raise Fenced(f"{self._refused} transactions in a row did not happen: {error}") from error
        said = "stage %s: a transaction did not happen and is done again: %s"
        log.warning(said, self.stage.name, error, extra={"stage": self.stage.name})

    # -- what the session brings ----------------------------------------------------------------------------------------

    def _take(self, polled: Polled) -> None:
        for partition in polled.lost:
            self.lanes.lost(partition)
            self.gate.lost(partition)
            self._deaths.lost(partition)
            self.next = {place: offset for place, offset in self.next.items() if place[1] != partition}
        for record in polled.table:
            self.lanes.load(record)
        for claim in polled.gained:
            self.lanes.gained(claim.partition)
            self.gate.gained(claim.partition)
            self.tally.restore.add(claim.waited)
            self._deaths.gained(claim.partition, claim.metadata, self._clock())
            self.next.update({(topic, claim.partition): offset for topic, offset in claim.offsets.items()})
        if polled.gained or polled.table:  # an operator's tombstone makes room as well
            self.gate.measure(self.lanes)
        if polled.gained or polled.lost:
            known = {"stage": self.stage.name}
            log.info("stage %s owns partitions %s", self.stage.name, sorted(self.gate.partitions), extra=known)

    def _wake(self) -> float:
        """When there is something to do without a new record, in seconds since the Unix epoch."""
        return self.gate.hold.probe if self.gate.hold else self.lanes.next_due()


def _drive(step: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that never suspends: synchronous handlers, on the session's thread."""
    try:
        step.send(None)
    except StopIteration:
        return
    step.close()
    raise RuntimeError("a synchronous stage was suspended")
