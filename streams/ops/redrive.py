"""Decisions on cases: redrive, dismiss, edit. The one desk at which operators sit.

The one rule: there is one writer. A desk that opens fences every older one and ends its transaction, then reads all cases to
their end, then decides; what it decides on is therefore so until it has decided. It writes open cases and no others.

A redriven record goes to its stage's parking table, due now; its case goes to `redriven` in the same transaction.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Final, Protocol, Self

import msgspec

from streams import names, topics
from streams.dead import Case, Decision, State
from streams.errors import Aborted, Fenced, SetupError
from streams.ops.cases import Book
from streams.ops.takeover import take_over
from streams.parked import Parked, tombstone
from streams.record import Output, Record, event_info
from streams.topology import Topology

BATCH: Final = 100
"""Cases in one transaction at most."""
_TRIES: Final = 3
_CHANGED: Final = "it has changed since it was looked at"
_REASON: Final = 1000  # characters; each of them travels with the case from then on


class Writing(Protocol):
    """Who writes what was decided; `streams.kafka.writer` has it."""

    def write(self, outputs: Sequence[Output]) -> None:
        """One transaction. Raises `Aborted` when it did not happen, and `Fenced`."""
        ...

    def renew(self) -> None:
        """Take over again after `Aborted`; what was read is to be read again."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Entry(msgspec.Struct, frozen=True):
    """A decision to be written: the case as it becomes, and what goes with it in the same transaction.

    `seen` is the case that was decided on; without it the decision holds whatever the case is by then.
    """

    case: Case
    outputs: tuple[Output, ...] = ()
    seen: Case | None = None


class Step(msgspec.Struct, frozen=True):
    """What became of one case, and why.

    `done` is `redriven`, `dismissed`, `edited` or `imported`; `resolved` or `died again` of a canary, `kept back` behind
    one; `skipped` if it is not what it was when it was chosen; `failed`.
    """

    case_id: str
    stage: str
    done: str
    why: str = ""

    @property
    def good(self) -> bool:
        """Whether it went as it was meant to."""
        return self.done not in ("failed", "skipped", "died again", "kept back")


class Pace(msgspec.Struct, frozen=True):
    """How a redrive goes: cases per second (`None`: at once); first `canary` of them, which must succeed `within` seconds."""

    rate: float | None = None
    canary: int = 0
    within: float = 60.0


class Desk:
    """The operators' writer. `who` is recorded with every decision. As a context manager it is closed at the end.

    Every call that writes raises `Fenced` once a later desk is open; what was committed before stays, nothing is half done.
    """

    def __init__(self, book: Book, who: str, reason: str, *, writer: Writing | None = None) -> None:
        """Raises `SetupError` if the cluster does not let us write. `writer` is for a cluster that is none: a simulation's."""
        if len(reason) > _REASON:
            raise SetupError(f"a reason of {len(reason)} characters", fix=f"say it in {_REASON}")
        self.book = book
        self.who = _clean(who)
        self.reason = _clean(reason)
        self.topology: Topology = book.topology
        self._encode = book.codec.encoder(Case)
        if writer is None:
            properties = topics.properties(book.settings, {"message.max.bytes": 2_097_152})  # as the topics take it
            writer = take_over(properties, names.cases_operator(book.topology.name), "operator")
        self._writer = writer
        book.read(decided=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    # -- verbs ----------------------------------------------------------------------------------------------------------

    def redrive(self, cases: Sequence[Case], pace: Pace = Pace()) -> Iterator[Step]:  # noqa: B008  # a frozen value
        """Hand records back to their stages: the canary first, then, if all of it succeeds, the rest."""
        fit: list[Case] = []
        for case in cases:
            if (step := self._unfit(case)) is not None:
                yield step
            else:
                fit.append(case)
        first, rest = fit[: pace.canary], fit[pace.canary :]
        good = True
        for step in self._send(first, pace):
            good = good and step.good
            yield step
        if first and good:
            for step in self._verdicts(first, pace.within):
                good = good and step.good
                yield step
        if good:
            yield from self._send(rest, pace)
        else:
            yield from (_step(case, "kept back", "the canary did not succeed") for case in rest)

    def dismiss(self, cases: Iterable[Case]) -> Iterator[Step]:
        """Close cases without another attempt; a key that was held for one of them is open again."""
        open_cases: list[Case] = []
        for case in cases:
            if (step := self._changed(case)) is not None:
                yield step
            else:
                open_cases.append(case)
        yield from self.put((self._dismissal(case) for case in open_cases), "dismissed")

    def edit(self, case: Case, value: bytes | None, change: str) -> Step:
        """Put `value` in the place of the record's own, for redrives to come; `None` takes the original back."""
        if (step := self._changed(case)) is not None:
            return step
        why = f"{self.reason} ({change})" if self.reason else change
        edited = msgspec.structs.replace(self._decided(case, State.OPEN, "edited", why), edited_value=value)
        return next(iter(self.put([Entry(edited, seen=case)], "edited")))

    def put(self, entries: Iterable[Entry], done: str, size: int = BATCH) -> Iterator[Step]:
        """Write decisions, `size` of them in one transaction."""
        waiting = iter(entries)
        while batch := list(islice(waiting, size)):
            yield from self._write(batch, done)

    # -- what they are made of ------------------------------------------------------------------------------------------

    def _send(self, cases: Sequence[Case], pace: Pace) -> Iterator[Step]:
        """Redrive all of these, at a steady rate."""
        missing = {case.case_id: case for case in cases}

        def found() -> Iterator[Entry]:
            for case, record in self.book.letters(cases):
                del missing[case.case_id]
                yield self._redrive(case, record)

        wait = _metronome(pace.rate)
        yield from self.put(wait(found()), "redriven", min(BATCH, max(1, int(pace.rate or BATCH))))
        for case in missing.values():
            yield _step(case, "failed", f"its dead letter is no longer in {names.dlq(self.topology.name, case.stage)}")

    def _redrive(self, case: Case, record: Record) -> Entry:
        if case.edited_value is not None:
            record = msgspec.structs.replace(record, value=case.edited_value)
        decided = self._decided(case, State.REDRIVEN, "redriven", self.reason)
        parked = Parked(record, -1, case=self._encode(decided))  # before all that queue there: it is older
        return Entry(decided, (parked.output(names.retry(self.topology.name, case.stage), f"operator:{self.who}"),), case)

    def _dismissal(self, case: Case) -> Entry:
        decided = self._decided(case, State.DISMISSED, "dismissed", self.reason)
        stage = next((stage for stage in self.topology.stages if stage.name == case.stage), None)
        if stage is None or stage.after_dead != "hold":
            return Entry(decided, seen=case)
        held = Parked(Record(case.topic, case.partition, case.offset, case.key, None), -1)
        return Entry(decided, (tombstone(held, names.retry(self.topology.name, case.stage), f"operator:{self.who}"),), case)

    def _verdicts(self, canary: Sequence[Case], within: float) -> Iterator[Step]:
        """Wait for what the stages say of the canary."""
        waiting = {case.case_id: case for case in canary}
        deadline = time.monotonic() + within
        while waiting and time.monotonic() < deadline:
            self.book.watch(0.2)
            for one, case in list(waiting.items()):
                now = self.book.cases[one]
                if now.state is not State.REDRIVEN:
                    del waiting[one]
                    good = now.state is State.RESOLVED
                    yield _step(case, "resolved" if good else "died again", "" if good else f"{now.error}: {now.message}")
        for case in waiting.values():
            yield _step(case, "failed", f"its stage has not decided within {within:g} s; does it run?")

    def _write(self, entries: Sequence[Entry], done: str, tries: int = _TRIES) -> Iterator[Step]:
        """One transaction; if it does not happen, its halves, so that one record that cannot be written stops no other."""
        batch = []
        for entry in entries:
            if self._stands(entry):
                batch.append(entry)
            else:
                yield _step(entry.case, "skipped", _CHANGED)
        if not batch:
            return
        outputs: list[Output] = []
        for entry in batch:
            outputs += entry.outputs
            outputs.append(Output(names.cases(self.topology.name), entry.case.case_id.encode(), self._encode(entry.case)))
        try:
            self._writer.write(outputs)
        except Aborted as error:
            self._writer.renew()
            self.book.read(decided=True)
            if len(batch) > 1:
                half = len(batch) // 2
                yield from self._write(batch[:half], done)
                yield from self._write(batch[half:], done)
            elif tries > 1:
                yield from self._write(batch, done, tries - 1)
            else:
                yield _step(batch[0].case, "failed", str(error))
        except Fenced as error:
            raise Fenced(
                f"cases of {self.topology.name}: this call has ended; what it reported is done, nothing is half done: {error}"
            ) from None
        else:
            for entry in batch:
                self.book.cases[entry.case.case_id] = entry.case
                yield _step(entry.case, done)

    def _decided(self, case: Case, state: State, what: str, why: str) -> Case:
        step = Decision(self.now(), self.who, what, why)
        return msgspec.structs.replace(case, state=state, decisions=(*case.decisions, step))

    def now(self) -> datetime:
        """The time, cut to the millisecond that a case keeps."""
        return datetime.fromtimestamp(int(time.time() * 1000) / 1000, UTC)

    def _stands(self, entry: Entry) -> bool:
        """Whether its case is still what was decided on: another may decide between `Aborted` and `renew`."""
        return entry.seen is None or self.book.cases[entry.case.case_id] == entry.seen

    def _changed(self, case: Case) -> Step | None:
        """Whether a case that was seen is now another, and so not to be decided on what was seen."""
        now = self.book.cases[case.case_id]
        if now.state is not State.OPEN:
            return _step(case, "skipped", f"it is {now.state.value}")
        return None if now == case else _step(case, "skipped", _CHANGED)

    def _unfit(self, case: Case) -> Step | None:
        """Why a case cannot be redriven, if it cannot."""
        if (step := self._changed(case)) is not None:
            return step
        stage = next((stage for stage in self.topology.stages if stage.name == case.stage), None)
        if stage is None:
            return _step(case, "failed", f"the topology has no stage {case.stage!r} any more")
        if case.topic not in {event_info(cls).topic for cls in (*stage.consumes, *stage.timers)}:
            return _step(case, "failed", f"stage {case.stage!r} does not consume {case.topic} any more")
        return None


def _step(case: Case, done: str, why: str = "") -> Step:
    return Step(case.case_id, case.stage, done, why)


def _clean(words: str) -> str:
    """Text that can be written, whatever bytes a command line had."""
    return words.encode("utf-8", "replace").decode()


def _metronome(rate: float | None) -> Callable[[Iterator[Entry]], Iterator[Entry]]:
    """Let entries through at so many per second."""
    start = time.monotonic()

    def steadily(entries: Iterator[Entry]) -> Iterator[Entry]:
        for count, entry in enumerate(entries):
            if rate and (wait := start + count / rate - time.monotonic()) > 0:
                time.sleep(wait)
            yield entry

    return steadily
