"""Bugs to be found: each is a patch of the product, put in by a test and by nothing else.

The one rule: a mutation is a mistake that somebody could make, and all the rest of the product stays as it is.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final
from unittest.mock import patch

import msgspec

from streams import lanes, store, travel, work
from streams.dead import DeadLetters
from streams.engine import Engine
from streams.errors import Aborted, Retry
from streams.gate import Gate
from streams.memory import broker as memory_broker
from streams.memory import log as memory_log
from streams.memory import session as memory
from streams.ops.redrive import Desk, Step
from streams.parked import Parked, timer_of
from streams.record import Output, Record
from streams.stage import Context

Mutation = Callable[[], AbstractContextManager[Any]]


def offsets_outside() -> AbstractContextManager[Any]:
    """The offsets are committed in a transaction of their own, after the outputs."""
    real = memory.MemorySession.committing

    def committing(self: Any, outputs: Sequence[Output], offsets: Mapping[Any, int], metadata: str = "") -> Iterator[str]:
        owned = all(self._is_claimed(place) for place in offsets)
        if outputs and owned:
            yield from real(self, outputs, {at: self._owned[at[1]].committed[at[0]].offset for at in offsets}, metadata)
            outputs = ()
        yield from real(self, outputs, offsets, metadata)

    return patch.object(memory.MemorySession, "committing", committing)


def parked_outside() -> AbstractContextManager[Any]:
    """What is parked is written at once, outside the transaction."""
    real = memory.MemorySession.committing

    def committing(self: Any, outputs: Sequence[Output], offsets: Mapping[Any, int], metadata: str = "") -> Iterator[str]:
        for output in outputs:
            if output.topic == self._inputs.table:
                self._broker.produce(*msgspec.structs.astuple(output))
        return real(self, [each for each in outputs if each.topic != self._inputs.table], offsets, metadata)

    return patch.object(memory.MemorySession, "committing", committing)


def lane_released_early() -> AbstractContextManager[Any]:
    """A record goes past one of its key that waits."""
    return patch.object(lanes.Cycle, "blocks", lambda _, __: False)


def followers_reversed() -> AbstractContextManager[Any]:
    """What waits behind a parked record is set free from its end."""
    real = lanes.Cycle.complete

    def complete(self: Any, lane: Any) -> None:
        view = self._view(lane)
        first = view.dropped + 1
        if first <= len(view.lane):
            view.lane[first:] = reversed(view.lane[first:])
        real(self, lane)

    return patch.object(lanes.Cycle, "complete", complete)


def tombstone_forgotten() -> AbstractContextManager[Any]:
    """A parked record that is through stays on the table."""
    real = lanes.Cycle.complete

    def complete(self: Any, lane: Any) -> None:
        real(self, lane)
        self.writes.pop()

    return patch.object(lanes.Cycle, "complete", complete)


def restore_stops_short() -> AbstractContextManager[Any]:
    """A new owner reads the table up to the last record, and not that one."""
    real = memory.MemorySession._read_tables

    def read(self: Any, polled: Any, limit: int) -> None:
        new = [owned for owned in self._owned.values() if not owned.claimed]
        real(self, polled, limit)
        if polled.table and any(owned.table_at >= owned.table_end for owned in new):
            polled.table.pop()

    return patch.object(memory.MemorySession, "_read_tables", read)


def tail_not_read() -> AbstractContextManager[Any]:
    """What operators write to the table is not seen before the next start."""
    real = lanes.Lanes.load

    def load(self: Any, record: Record) -> None:
        if not self._partitions.get(record.partition) or not self._partitions[record.partition].restored:
            real(self, record)

    return patch.object(lanes.Lanes, "load", load)


def lanes_kept_when_lost() -> AbstractContextManager[Any]:
    """A partition goes, and what was parked in it stays in memory."""
    return patch.object(lanes.Lanes, "lost", lambda _, __: None)


def lanes_before_commit() -> AbstractContextManager[Any]:
    """The lanes change although the transaction did not happen."""
    real = Engine._commit

    async def commit(self: Any, done: Any, records: Sequence[Record]) -> bool:
        happened = await real(self, done, records)
        if not happened:
            done.cycle.apply()
        return happened

    return patch.object(Engine, "_commit", commit)


def inbox_after_commit() -> AbstractContextManager[Any]:
    """What an event did is committed first, and that it was handled in a transaction afterwards."""
    real = store.Inbox.batch

    @contextmanager
    def batch(self: Any, ids: Sequence[str], now: float, partitions: Sequence[int] = ()) -> Iterator[Any]:
        with real(self, ids, now, partitions) as journal:
            yield journal
            new, journal._new = journal._new, {}
        if new:
            with real(self, [], now, partitions) as later:
                later._new, later._known = new, journal._known

    return patch.object(store.Inbox, "batch", batch)


def inbox_not_asked() -> AbstractContextManager[Any]:
    """An event that comes again is handled again."""
    return patch.object(store.Journal, "recorded", lambda _, __: None)


def zombie_not_fenced() -> AbstractContextManager[Any]:
    """Nobody asks whether who commits is still a member of the group."""

    def send_offsets(self: Any, _: Any, name: str, __: Any, positions: Mapping[Any, Any]) -> None:
        self._transaction().offsets.update({(name, *place): position for place, position in positions.items()})

    return patch.object(memory_broker.MemoryProducer, "send_offsets", send_offsets)


def parked_work_unfenced() -> AbstractContextManager[Any]:
    """A transaction of parked work carries no offset, so nobody asks whether its writer is still a member."""
    real = memory_broker.MemoryProducer.send_offsets

    def send_offsets(self: Any, group: Any, name: str, member: Any, positions: Mapping[Any, Any]) -> None:
        known = {place: self._broker._offsets.get((name, *place)) for place in positions}
        if any(at is None or at.offset != positions[place].offset for place, at in known.items()):
            real(self, group, name, member, positions)

    return patch.object(memory_broker.MemoryProducer, "send_offsets", send_offsets)


def not_rewound() -> AbstractContextManager[Any]:
    """After an aborted transaction the session reads on from where it was."""
    return patch.object(memory.MemorySession, "_rewind", lambda _: None)


def lost_reply_taken_for_yes() -> AbstractContextManager[Any]:
    """A commit without a reply is believed to have happened."""

    def settle(self: Any, _: Any) -> None:
        self._producer = self._broker.producer(self._id)

    return patch.object(memory.MemorySession, "_settle", settle)


def lost_reply_taken_for_no() -> AbstractContextManager[Any]:
    """A commit without a reply is done again."""

    def settle(self: Any, _: Any) -> None:
        self._producer = self._broker.producer(self._id)
        self._rewind()
        raise Aborted("nobody knows")

    return patch.object(memory.MemorySession, "_settle", settle)


def aborted_data_read() -> AbstractContextManager[Any]:
    """The reader is not read_committed."""
    real = memory_log.Log.read
    return patch.object(memory_log.Log, "read", lambda self, start, limit, _="": real(self, start, limit, "read_uncommitted"))


def failed_outputs_kept() -> AbstractContextManager[Any]:
    """What an attempt had made is sent along with the next one's."""
    real = Engine._commit

    async def commit(self: Any, done: Any, records: Sequence[Record]) -> bool:
        done.outputs += self.__dict__.pop("kept", [])
        happened = await real(self, done, records)
        if not happened:
            self.kept = done.outputs
        return happened

    return patch.object(Engine, "_commit", commit)


def id_by_chance() -> AbstractContextManager[Any]:
    """An output's id is new in each attempt."""
    count = itertools.count()
    return patch.object(travel, "output_id", lambda cause, _, index: travel._digest(f"{cause}/{index}/{next(count)}"))


def timer_doubled() -> AbstractContextManager[Any]:
    """What a stage sends itself for later waits there twice."""
    real = lanes.Cycle.park

    def park(self: Any, parked: Parked) -> None:
        real(self, parked)
        if parked.record.offset < 0 and not parked.attempt:
            other = msgspec.structs.replace(parked.record, offset=parked.record.offset - 1)
            real(self, msgspec.structs.replace(parked, record=other))

    return patch.object(lanes.Cycle, "park", park)


def timer_forgotten() -> AbstractContextManager[Any]:
    """What a stage sends itself for later is due a year later."""

    def late(output: Output, partition: int, now: float) -> Any:
        record, due = timer_of(output, partition, now)
        return record, due + 365 * 86_400

    return patch.object(work, "timer_of", late)


def effect_not_idempotent() -> AbstractContextManager[Any]:
    """The key that a provider gets names the attempt and not the event."""
    key = property(lambda self: f"{self.stage}-{self.event_id}-{self.now}-{self.attempt}")
    return patch.object(Context, "idempotency_key", key)


def case_closed_early() -> AbstractContextManager[Any]:
    """A case is resolved when its record is tried again, whatever comes of it."""
    real = work.Work._failed

    def failed(self: Any, parked: Parked, outcome: Any, lane: Any) -> None:
        if parked.case:
            self.outputs.append(self._crew.dead.resolve(parked.case, self.cycle.now))
            self.resolved += 1
        real(self, parked, outcome, lane)

    return patch.object(work.Work, "_failed", failed)


def letter_without_case() -> AbstractContextManager[Any]:
    """A dead letter is written, and its case only if it was there before."""
    real = DeadLetters.bury

    def bury(self: Any, parked: Parked, verdict: Any, now: float) -> Any:
        letter, case, encoded = real(self, parked, verdict, now)
        return letter, letter if not parked.case else case, encoded

    return patch.object(DeadLetters, "bury", bury)


def attempt_not_counted() -> AbstractContextManager[Any]:
    """A record that fails has as many attempts as it likes."""
    real = lanes.Cycle.again

    def again(self: Any, lane: Any, parked: Parked) -> None:
        real(self, lane, msgspec.structs.replace(parked, attempt=1))

    return patch.object(lanes.Cycle, "again", again)


def gate_stays_shut() -> AbstractContextManager[Any]:
    """A stage that waited for a dependency goes on with what waited, and takes nothing new in."""

    def opened(self: Any) -> None:
        self.hold = None

    return patch.object(Gate, "open", opened)


def savepoint_kept() -> AbstractContextManager[Any]:
    """What a failing event did to the database stays there."""
    real = store.Journal.savepoint

    @contextmanager
    def savepoint(self: Any) -> Iterator[None]:
        failure: BaseException | None = None
        with real(self):
            try:
                yield
            except Retry as error:
                failure = error
        if failure is not None:
            raise failure

    return patch.object(store.Journal, "savepoint", savepoint)


def timers_not_redriven() -> AbstractContextManager[Any]:
    """As it was: the desk would not redrive what a stage had sent itself. Found by the simulator on its first day."""
    real = Desk._unfit

    def unfit(self: Any, case: Any) -> Step | None:
        consumed = case.topic in self.topology.stage(case.stage).topics
        return real(self, case) if consumed else Step(case.case_id, case.stage, "failed", "it is not consumed any more")

    return patch.object(Desk, "_unfit", unfit)


def probe_never_made() -> AbstractContextManager[Any]:
    """As it was: after a death, a stage that was held with nothing parked span for a minute. Found on the first day as well."""
    real = Engine._handle

    async def handle(self: Any, due: Any, records: Sequence[Record]) -> bool:
        return True if due == [] and not records else await real(self, due, records)

    return patch.object(Engine, "_handle", handle)


MUTATIONS: Final[Mapping[Mutation, str]] = {
    offsets_outside: "orders",
    parked_outside: "orders",
    tombstone_forgotten: "orders",
    restore_stops_short: "orders",
    tail_not_read: "orders",
    lanes_kept_when_lost: "orders",
    lanes_before_commit: "orders",
    inbox_after_commit: "orders",
    zombie_not_fenced: "orders",
    not_rewound: "orders",
    lost_reply_taken_for_yes: "orders",
    lost_reply_taken_for_no: "orders",
    aborted_data_read: "orders",
    failed_outputs_kept: "orders",
    id_by_chance: "orders",
    timer_doubled: "orders",
    effect_not_idempotent: "orders",
    case_closed_early: "orders",
    letter_without_case: "orders",
    gate_stays_shut: "orders",
    lane_released_early: "till",
    followers_reversed: "till",
    savepoint_kept: "till",
    inbox_not_asked: "till",
    timer_forgotten: "till",
    attempt_not_counted: "till",
    parked_work_unfenced: "orders",
    timers_not_redriven: "orders",
    probe_never_made: "orders",
}
"""Each with the workload that is to find it."""
RARE: Final = frozenset({timers_not_redriven, probe_never_made, inbox_not_asked})
"""Which take more than a few dozen seeds, or one that never comes to rest: `make mutations` looks for them alone."""
