"""One record in, one Outcome out: decode, handler, encode, verdict.

The one rule: `run` is total. Whatever the bytes are and whatever the handler does, there is an Outcome and never an exception.
"""

import asyncio
import enum
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol

import msgspec

from streams.codec import Codec
from streams.errors import DecodeError, Reject, Retry, Unavailable
from streams.record import Output, Record, event_info
from streams.stage import AT, HERE, Context, Later, Stage
from streams.travel import Travel, Writing

MESSAGE_LIMIT: Final = 512  # bytes of an error's message that are kept


class Verdict(enum.StrEnum):
    """What became of one attempt at a record; DESIGN section 4."""

    DONE = "done"
    RETRY = "retry"
    UNAVAILABLE = "unavailable"
    REJECT = "reject"
    UNDECODABLE = "undecodable"
    CRASHED = "crashed"

    __hash__ = str.__hash__  # an Enum's own is Python, and every record's verdict is counted


class Failure(msgspec.Struct, frozen=True):
    """Why an attempt failed. `message` has at most 512 bytes; `fingerprint` is error type and handler's top frame.

    `after` (seconds) is the delay that was asked for; `dependency` the one that is away.
    """

    kind: str
    message: str
    fingerprint: str
    after: float | None = None
    dependency: str = ""


class Outcome(msgspec.Struct, frozen=True):
    """A verdict, with the outputs of a `done` and the failure of anything else."""

    verdict: Verdict
    outputs: tuple[Output, ...] = ()
    failure: Failure | None = None


Ready = tuple[Record, Travel, Any]
"""A record, what it gives its outputs, and its event, or the `Outcome` of one that cannot be decoded."""


class Journal(Protocol):
    """One database transaction, open for one batch; `streams.store` has it."""

    repository: Any

    def recorded(self, event_id: str) -> tuple[Output, ...] | None:
        """The outputs of an event that this stage has already handled."""
        ...

    def record(self, event_id: str, outputs: Sequence[Output], record: Record) -> None:
        """Remember that the event that `record` brought was handled, with these outputs."""
        ...

    def expect(self, events: Callable[[], Sequence[Any]]) -> None:
        """What the batch will bring, for a repository that wants to know."""
        ...

    def savepoint(self) -> AbstractContextManager[None]:
        """What fails inside is undone, and nothing else."""
        ...


class Effects(Protocol):
    """A stage's database; `streams.store` has it."""

    def batch(self, event_ids: Sequence[str], now: float, partitions: Sequence[int]) -> AbstractContextManager[Journal]:
        """One database transaction, with the events among `event_ids` that were handled before looked up at once."""
        ...


class Processor:
    """One stage's handlers with everything that they need. `resources` holds the open ports, by their `Port`."""

    def __init__(self, stage: Stage, codec: Codec, resources: Mapping[Any, Any]) -> None:
        self._stage = stage
        self._name = stage.name
        self._resources = dict(resources)
        self._journal: Journal | None = None
        self._decoded: dict[int, tuple[Record, Any]] = {}  # by identity: each record is held, so that no other gets it
        self.current: Record | None = None
        self.timers = frozenset(event_info(cls).topic for cls in stage.timers)
        self._inputs: dict[str, tuple[Callable[[bytes | None], Any], Callable[..., Any], bool]] = {
            event_info(cls).topic: (codec.decoder(cls), handler.function, handler.asynchronous)
            for handler in stage.handlers
            for cls in handler.consumes
        }
        self._emits = {cls: Writing(cls, codec) for cls in stage.emits}
        self._later = {cls: Writing(cls, codec) for cls in stage.timers}

    def use(self, journal: Journal | None) -> None:
        """Run what follows inside this database transaction; `None`: no more."""
        self._journal = journal
        self._decoded.clear()
        if journal is not None and self._stage.store is not None:
            self._resources[self._stage.store] = journal.repository

    def events(self, records: Iterable[tuple[Record, str]]) -> list[Any]:
        """What these records, each with its event's id, say and the store has not seen yet; of one that says nothing, nothing.

        Until the next `use` they are not decoded again.
        """
        found = []
        for record, event_id in records:
            source = self._inputs.get(record.topic)
            if source is not None and (self._journal is None or self._journal.recorded(event_id) is None):
                with suppress(DecodeError):
                    event = source[0](record.value)
                    self._decoded[id(record)] = record, event
                    found.append(event)
        return found

    async def run(self, record: Record, attempt: int, now: float, case: bytes = b"") -> Outcome:
        """One attempt at one record. `attempt` counts from 1; `now` is in seconds since the Unix epoch.

        `case` is the encoded case of a record that was redriven.
        """
        self.current = record
        ready = self.read([record])[0]
        ready[1].case = case
        outcome = self.start(ready, attempt, now)
        return outcome if isinstance(outcome, Outcome) else await outcome

    def read(self, records: Sequence[Record]) -> list[Ready]:
        """Decode records ahead: many of one kind of step after each other are quicker than all steps of each."""
        events = [self._event(record) for record in records]
        return [(record, Travel(record), event) for record, event in zip(records, events, strict=True)]

    def _event(self, record: Record) -> Any:
        if self._decoded and (known := self._decoded.pop(id(record), None)) is not None:  # most stages have no store
            return known[1]
        source = self._inputs.get(record.topic)
        if source is None:  # parked when the stage still had a handler for it
            message = f"stage {self._name!r} does not consume {record.topic}"
            return Outcome(Verdict.REJECT, (), Failure("NoHandler", message, "NoHandler"))
        try:
            return source[0](record.value)
        except DecodeError as error:
            return Outcome(Verdict.UNDECODABLE, (), Failure("DecodeError", _text(error), "DecodeError"))

    def start(self, ready: Ready, attempt: int, now: float) -> Outcome | Awaitable[Outcome]:
        """`run`, where only an asynchronous handler's outcome has to be waited for: a coroutine a record would cost."""
        record, travel, event = ready
        if type(event) is Outcome:
            return event
        self.current = record
        _, function, asynchronous = self._inputs[record.topic]
        cause = travel.cause
        context = Context(record, cause, self._name, attempt, now, self._resources, travel.trace)
        journal = self._journal
        HERE.context = context
        try:
            if journal is not None and (known := journal.recorded(cause)) is not None:
                return Outcome(_DONE, known)
            if asynchronous:
                return self._wait(function, event, context, travel)
            if journal is None:
                outputs = self._outputs(function(event, context), travel, now)
            else:
                with journal.savepoint():
                    outputs = self._outputs(function(event, context), travel, now)
                journal.record(cause, outputs, record)
        except (Exception, asyncio.CancelledError) as error:  # whatever a handler raises is a verdict
            return _spoken(error, function)
        finally:
            HERE.context = None
        return Outcome(_DONE, outputs)

    async def _wait(self, function: Callable[..., Any], event: Any, context: Context, travel: "Travel") -> Outcome:
        """The rest of `start` for an asynchronous handler."""
        journal = self._journal
        AT.set(context)
        try:
            with journal.savepoint() if journal is not None else nullcontext():
                outputs = self._outputs(await self._in_time(function(event, context)), travel, context.now)
            if journal is not None:
                journal.record(travel.cause, outputs, context.record)
        except (Exception, asyncio.CancelledError) as error:
            return _spoken(error, function)
        finally:
            AT.set(None)
        return Outcome(_DONE, outputs)

    async def _in_time(self, result: Awaitable[Any]) -> Any:
        """Wait for an asynchronous handler, but not for ever."""
        limit = asyncio.timeout(self._stage.time_limit)
        try:
            async with limit:
                return await result
        except TimeoutError:
            if limit.expired():
                raise Retry(f"no answer within {self._stage.time_limit:g} s") from None
            raise

    def _outputs(self, result: Any, travel: "Travel", now: float) -> tuple[Output, ...]:
        if result is None:
            return ()
        writing = self._emits.get(type(result))  # asked first: Structs are slow to tell whether something is one of them
        if writing is not None:
            return (writing.output(result, travel.headers(self._name, 0), travel.large),)
        if isinstance(result, msgspec.Struct):
            return (self._output(result, travel, 0, now),)
        if not isinstance(result, Iterable) or isinstance(result, str | bytes):
            raise TypeError(f"a handler of stage {self._name!r} returned {type(result).__name__}, which is no event")
        return tuple([self._output(event, travel, index, now) for index, event in enumerate(result)])

    def _output(self, event: Any, travel: "Travel", index: int, now: float) -> Output:
        headers = travel.headers(self._name, index)
        if (writing := self._emits.get(type(event))) is not None:
            return writing.output(event, headers, travel.large)
        if isinstance(event, Later):
            if (writing := self._later.get(type(event.event))) is None:
                what = type(event.event).__name__
                raise TypeError(f"a handler of stage {self._name!r} sends itself {what}, unlike its annotation")
            due = now + min(max(event.after, 0.0), _LATEST)
            headers = (*headers[:2], (DUE, b"%d" % (due * 1000)), *headers[2:])
            return writing.output(event.event, headers, travel.large)
        allowed = ", ".join(cls.__name__ for cls in self._emits) or "nothing"
        raise TypeError(f"a handler of stage {self._name!r} returned {type(event).__name__}; its annotation allows {allowed}")


DUE: Final = "due"
"""Behind `id` and `cause` in what a stage sends itself for later: when, in milliseconds since the Unix epoch."""
_DONE: Final = Verdict.DONE
_LATEST: Final = 10 * 365 * 86400.0
"""Seconds: no longer wait can be asked for, so that an attempt is never put off for ever by a slip."""


def _spoken(error: BaseException, function: Callable[..., Any]) -> Outcome:
    """The verdict in an exception: a handler's word, or `retry` for one that nobody expected.

    That something was cancelled for which the handler waited is one as well; that the handler itself was is not.
    """
    if isinstance(error, asyncio.CancelledError) and _is_cancelled():
        raise error
    kind = type(error).__name__
    fingerprint = f"{kind}@{_frame(error.__traceback__, function)}"
    message = _text(error)
    if isinstance(error, Reject):
        return Outcome(Verdict.REJECT, (), Failure(kind, message, fingerprint))
    after = _seconds(error) if isinstance(error, Retry | Unavailable) else None
    if isinstance(error, Unavailable):
        dependency = _text(getattr(error, "dependency", message))
        return Outcome(Verdict.UNAVAILABLE, (), Failure(kind, message, fingerprint, after, dependency))
    return Outcome(Verdict.RETRY, (), Failure(kind, message, fingerprint, after))


def _seconds(error: Retry | Unavailable) -> float | None:
    """The wait that was asked for, if it is one: a subclass may have forgotten it, and a slip may make it anything."""
    try:
        after = float(getattr(error, "after", None))  # type: ignore[arg-type]  # whatever it is
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(after, 0.0), _LATEST) if math.isfinite(after) else None


def _is_cancelled() -> bool:
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop in this thread: a synchronous handler
        return False
    return task is not None and task.cancelling() > 0


def _frame(traceback: TracebackType | None, function: Callable[..., Any]) -> str:
    """`file:function` of the innermost frame in the handler's own package; no line, so that an edit keeps a group together."""
    home = str(Path(function.__code__.co_filename).parent)
    found = f"{Path(function.__code__.co_filename).name}:{function.__qualname__}"
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if code.co_filename.startswith(home):
            found = f"{Path(code.co_filename).name}:{code.co_qualname}"
        traceback = traceback.tb_next
    return found


def _text(value: object) -> str:
    """At most 512 bytes of what it says, all of which UTF-8 can hold."""
    try:
        data = str(value).encode("utf-8", "replace")
    except Exception as error:
        data = f"{type(value).__name__}, and {type(error).__name__} when it was asked for its message".encode()
    return data[:MESSAGE_LIMIT].decode("utf-8", "ignore")
