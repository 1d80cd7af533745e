"""One record in, one Outcome out: decode, handler, encode, verdict.

The one rule: `run` is total. Whatever the bytes are and whatever the handler does, there is an Outcome and never an exception.
"""

import asyncio
import enum
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from hashlib import blake2b
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol

import msgspec

from streams.codec import Codec
from streams.errors import DecodeError, Reject, Retry, Unavailable
from streams.record import CAUSE, ID, Headers, Output, Record, event_info
from streams.stage import Context, Later, Stage

MESSAGE_LIMIT: Final = 512  # bytes of an error's message that are kept
OUTPUT_LIMIT: Final = 1_000_000
"""Bytes of key, value and headers that one output may have: a broker takes 1,048,588 for a whole batch by default."""
_ID_LIMIT: Final = 64


class Verdict(enum.StrEnum):
    """What became of one attempt at a record; DESIGN section 4."""

    DONE = "done"
    RETRY = "retry"
    UNAVAILABLE = "unavailable"
    REJECT = "reject"
    UNDECODABLE = "undecodable"
    CRASHED = "crashed"


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


def event_id(record: Record) -> str:
    """The record's `id` header, or one derived from its place if it has none that is fit to be one."""
    for name, value in record.headers:
        if name == ID:
            if value and len(value) <= _ID_LIMIT and value.isascii():
                text = value.decode()
                if text.isprintable():
                    return text
            break
    return _digest(f"{record.topic}/{record.partition}/{record.offset}")


def output_id(cause: str, stage: str, index: int) -> str:
    """The id of a stage's `index`-th output for an event: the same however often it is made."""
    return _digest(f"{cause}/{stage}/{index}")


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()


class Processor:
    """One stage's handlers with everything that they need. `resources` holds the open ports, by their `Port`."""

    def __init__(self, stage: Stage, codec: Codec, resources: Mapping[Any, Any]) -> None:
        self._stage = stage
        self._name = stage.name
        self._resources = dict(resources)
        self._journal: Journal | None = None
        self.current: Record | None = None
        self.timers = frozenset(event_info(cls).topic for cls in stage.timers)
        self._inputs: dict[str, tuple[Callable[[bytes | None], Any], Callable[..., Any], bool]] = {
            event_info(cls).topic: (codec.decoder(cls), handler.function, handler.asynchronous)
            for handler in stage.handlers
            for cls in handler.consumes
        }
        self._emits: dict[type, tuple[str, Callable[[Any], str], Callable[[Any], bytes]]] = {
            cls: (event_info(cls).topic, attrgetter(event_info(cls).key), codec.encoder(cls))
            for cls in (*stage.emits, *stage.timers)
        }

    def use(self, journal: Journal | None) -> None:
        """Run what follows inside this database transaction; `None`: no more."""
        self._journal = journal
        if journal is not None and self._stage.store is not None:
            self._resources[self._stage.store] = journal.repository

    def events(self, records: Iterable[Record]) -> list[Any]:
        """What these records say and the store has not seen yet; of one that cannot be decoded, nothing."""
        found = []
        for record in records:
            source = self._inputs.get(record.topic)
            if source is not None and (self._journal is None or self._journal.recorded(event_id(record)) is None):
                with suppress(DecodeError):
                    found.append(source[0](record.value))
        return found

    async def run(self, record: Record, attempt: int, now: float) -> Outcome:
        """One attempt at one record. `attempt` counts from 1; `now` is in seconds since the Unix epoch.

        Suspends only where an asynchronous handler does.
        """
        self.current = record
        source = self._inputs.get(record.topic)
        if source is None:  # parked when the stage still had a handler for it
            message = f"stage {self._name!r} does not consume {record.topic}"
            return Outcome(Verdict.REJECT, (), Failure("NoHandler", message, "NoHandler"))
        decode, function, asynchronous = source
        try:
            event = decode(record.value)
        except DecodeError as error:
            return Outcome(Verdict.UNDECODABLE, (), Failure("DecodeError", _text(error), "DecodeError"))
        cause = event_id(record)
        context = Context(record, cause, self._name, attempt, now, self._resources)
        journal = self._journal
        try:
            if journal is None:
                result = function(event, context)
                if asynchronous:
                    result = await self._in_time(result)
                outputs = self._outputs(result, context) if result is not None else ()
            else:
                known = journal.recorded(cause)
                if known is not None:
                    return Outcome(Verdict.DONE, known)
                with journal.savepoint():
                    result = function(event, context)
                    if asynchronous:
                        result = await self._in_time(result)
                    outputs = self._outputs(result, context) if result is not None else ()
                journal.record(cause, outputs, record)
        except Exception as error:  # whatever a handler raises is a verdict
            return _spoken(error, function)
        except asyncio.CancelledError as error:
            if _is_cancelled():
                raise
            return _spoken(error, function)  # something that the handler waited for was cancelled, not the handler
        return Outcome(Verdict.DONE, outputs)

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

    def _outputs(self, result: Any, context: Context) -> tuple[Output, ...]:
        through = tuple([header for header in context.headers if header[0] not in _OWN])
        if isinstance(result, msgspec.Struct):
            return (self._output(result, context, 0, through),)
        if not isinstance(result, Iterable) or isinstance(result, str | bytes):
            raise TypeError(f"a handler of stage {self._name!r} returned {type(result).__name__}, which is no event")
        return tuple([self._output(event, context, index, through) for index, event in enumerate(result)])

    def _output(self, event: Any, context: Context, index: int, through: Headers) -> Output:
        if isinstance(event, Later):
            due = context.now + min(max(event.after, 0.0), _LATEST)
            event, through = event.event, ((DUE, b"%d" % (due * 1000)), *through)
            if type(event) not in self._stage.timers:
                raise TypeError(f"a handler of stage {self._name!r} sends itself {type(event).__name__}, unlike its annotation")
        try:
            topic, key, encode = self._emits[type(event)]
        except KeyError:
            allowed = ", ".join(cls.__name__ for cls in self._emits) or "nothing"
            message = f"a handler of stage {self._name!r} returned {type(event).__name__}; its annotation allows {allowed}"
            raise TypeError(message) from None
        value = encode(event)
        cause = context.event_id
        headers = ((ID, output_id(cause, self._name, index).encode()), (CAUSE, cause.encode()), *through)
        if len(value) > _LARGE or len(headers) > _MANY or sum([len(content) for _, content in through if content]) > _LONG:
            _check_size(topic, value, headers)
        return Output(topic, str(key(event)).encode(), value, headers)


DUE: Final = "due"
"""Behind `id` and `cause` in what a stage sends itself for later: when, in milliseconds since the Unix epoch."""
_OWN: Final = frozenset({ID, CAUSE})
_LARGE: Final = OUTPUT_LIMIT // 4
_MANY: Final = 64
_LONG: Final = OUTPUT_LIMIT // 2 // _MANY
_LATEST: Final = 10 * 365 * 86400.0
"""Seconds: no longer wait can be asked for, so that an attempt is never put off for ever by a slip."""


def _check_size(topic: str, value: bytes, headers: Headers) -> None:
    """Refuse what a broker would refuse, since there it would abort the transaction of everybody else, again and again."""
    size = len(value) + sum(len(name) + len(content or b"") for name, content in headers)
    if size > OUTPUT_LIMIT:
        raise Reject(f"an output to {topic} has {size:,} bytes; {OUTPUT_LIMIT:,} are allowed")


def _spoken(error: BaseException, function: Callable[..., Any]) -> Outcome:
    """The verdict in an exception: a handler's word, or `retry` for one that nobody expected."""
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
