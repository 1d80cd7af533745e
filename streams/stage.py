"""Declarations: stages, their handlers, and what handlers are given.

The one rule: a stage is a value and a handler a typed function; what flows where follows from the handler's annotations.
"""

import threading
import types
import typing
import zlib
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Generic, Literal, TypeVar

import msgspec

from streams import names
from streams.config import Settings
from streams.errors import SetupError
from streams.record import Headers, Record, event_info
from streams.signature import Handler, Later, declared_at, read_handler, short_path
from streams.trace import Place, Step

__all__ = ["Backoff", "Context", "Handler", "Later", "Past", "Port", "Stage", "Store", "Telling", "declared_at", "short_path"]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class Past(msgspec.Struct, frozen=True):
    """An event that was handled to its end, and what it led to, in that order; what its stage sent itself for later as well."""

    event: Any
    outputs: tuple[Any, ...]

    def output(self, event: type[T]) -> T | None:
        """The first output of this class, if there is one."""
        return next((output for output in self.outputs if isinstance(output, event)), None)


class Port(Generic[T]):
    """A dependency beyond Kafka and the store: a provider, a mail server, a file.

    `connect` gets the process's settings and returns a context manager (either kind) that is entered once per worker.

    A replay connects to nothing. `recorded` gives it something that answers as the dependency did then, by what the event
    led to; it raises `Undecidable` where that does not say. With `pure`, what `connect` gives calls nobody and changes
    nothing, such as a number from the settings: a replay uses it as it is.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[Settings], AbstractContextManager[T] | AbstractAsyncContextManager[T]],
        *,
        recorded: Callable[[Past], T] | None = None,
        pure: bool = False,
    ) -> None:
        self.name = names.check_word(name, "port", declared_at())
        self.connect = connect
        self.recorded = recorded
        self.pure = pure


@typing.runtime_checkable
class Telling(typing.Protocol):
    """What an open port may offer: how the dependency behind it is doing, for `/health` and `/metrics`."""

    def state(self) -> str:
        """One word of a few, such as a circuit breaker's: closed, open, half-open. Asked at any time, so it only looks."""
        ...


class Store(Generic[T]):
    """A stage's tables, and what its handlers see of them.

    `tables` is an SQLAlchemy `MetaData`; `migrations` the folder of Alembic revisions that make these tables, for
    `towpath db upgrade`; `repository` is called with the batch's open `Connection`.

    Batches take turns, on PostgreSQL as on SQLite: what a handler reads stays as it is until its batch is committed. With
    `concurrent=True` PostgreSQL runs batches of different partitions at once, and the repository itself locks what it reads
    in order to change it (`with_for_update`).

    `recorded` gives a replay something that answers as the repository did then, by what the event led to; see `Port`.
    `volatile` names columns (`table.column`) that may be something else when the same events are handled once more.
    """

    def __init__(  # noqa: PLR0913  # a declaration: given by name
        self,
        name: str,
        *,
        tables: Any,
        migrations: Path,
        repository: Callable[[Any], T],
        concurrent: bool = False,
        recorded: Callable[[Past], T] | None = None,
        volatile: typing.Sequence[str] = (),
    ) -> None:
        self.name = names.check_word(name, "store", declared_at())
        self.volatile = frozenset(volatile)
        self.tables = tables
        self.migrations = migrations
        self.repository = repository
        self.concurrent = concurrent
        self.recorded = recorded


class Context(msgspec.Struct, eq=False):
    """What a handler knows besides its event. `now` is the cycle's time, in seconds since the Unix epoch.

    `resources` are the open ports and the store, for `use`. `trace` says where the attempt stands in a trace, for who calls
    others in its name; None where traces are off.
    """

    record: Record
    event_id: str
    stage: str = ""
    attempt: int = 1
    now: float = 0.0
    resources: Mapping[Any, Any] = types.MappingProxyType({})
    trace: Place | Step | None = None

    def __repr__(self) -> str:
        return f"<Context of {self.stage} at {self.record.place}, attempt {self.attempt}>"  # no value, no port's secret

    def use(self, resource: Port[T] | Store[T]) -> T:
        """The open port, or the store's repository inside the batch's database transaction."""
        try:
            return self.resources[resource]  # type: ignore[no-any-return]  # keyed by the resource that made it
        except KeyError:
            raise SetupError(
                f"stage {self.stage!r} uses {resource.name!r}, which it does not declare",
                fix=f"add it to the stage: Stage({self.stage!r}, ports=[…], store=…)",
            ) from None

    @property
    def headers(self) -> Headers:
        """The record's headers, byte for byte."""
        return self.record.headers

    @property
    def idempotency_key(self) -> str:
        """Names this event's effect at this stage: the same over retries, redrives and replays."""
        return f"{self.stage}-{self.event_id}"

    @property
    def time(self) -> datetime:
        """`now` as an aware datetime, UTC, cut to the millisecond that Avro's timestamp-millis keeps."""
        return datetime.fromtimestamp(int(self.now * 1000) / 1000, UTC)


class _Here(threading.local):
    context: Context | None = None


HERE: Final = _Here()
"""What the synchronous handler that runs on this thread was given, for whoever logs."""
AT: Final[ContextVar[Context | None]] = ContextVar("towpath_at", default=None)
"""The same of the asynchronous handler that this task runs. Setting it takes four times as long."""


class Backoff(msgspec.Struct, frozen=True):
    """How often and how late a failing event is tried again.

    `attempts` in all, the first included; the delay (seconds) doubles from `first` up to `ceiling`, less a jitter that
    is derived from the event's id.
    """

    attempts: int = 6
    first: float = 0.2
    ceiling: float = 60.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.first <= 0 or self.ceiling < self.first:
            raise SetupError(
                f"no backoff: attempts={self.attempts}, first={self.first}, ceiling={self.ceiling}",
                where=declared_at(3),
                fix="use attempts >= 1 and 0 < first <= ceiling",
            )

    def delay(self, attempt: int, event_id: str) -> float:
        """Seconds until the next attempt after `attempt` of them: doubled each time, less up to a quarter drawn from the id."""
        full = min(self.ceiling, self.first * 2.0 ** min(attempt - 1, 60))
        return full * (1 - zlib.crc32(f"{event_id}/{attempt}".encode()) / 2**34)


class Stage:
    """One step of a flow: a consumer group that turns events into events.

    `retry` is the backoff of failing events. `order="key"` keeps a key's events in order even while one waits for a
    retry; `"none"` lets later ones pass. `after_dead="hold"` keeps a key closed while one of its events is dead.
    `store` is the stage's database, `ports` its other dependencies. `batch` bounds the records of one transaction and
    `slots` the asynchronous handlers at work at once; a stage with a store runs its handlers one after the other. An
    asynchronous handler that takes longer than `time_limit` (seconds) is told to retry; a synchronous one makes `/health`
    fail. Past `max_parked` records or `max_parked_bytes` waiting in one partition that partition is not read on.
    """

    def __init__(  # noqa: PLR0913  # a declaration: all but the name have defaults and are given by name
        self,
        name: str,
        *,
        retry: Backoff | None = None,
        store: Store[Any] | None = None,
        ports: typing.Sequence[Port[Any]] = (),
        order: Literal["key", "none"] = "key",
        after_dead: Literal["continue", "hold"] = "continue",
        batch: int = 2000,
        slots: int = 64,
        time_limit: float = 60.0,
        max_parked: int = 100_000,
        max_parked_bytes: int = 256 * 2**20,
    ) -> None:
        self.where = declared_at()
        self.name = names.check_word(name, "stage", self.where)
        for what, value, allowed in (("order", order, ("key", "none")), ("after_dead", after_dead, ("continue", "hold"))):
            if value not in allowed:
                raise SetupError(f"stage {name!r} has {what}={value!r}", where=self.where, fix=f"use one of {allowed}")
        for what, number in (
            ("batch", batch),
            ("slots", slots),
            ("max_parked", max_parked),
            ("max_parked_bytes", max_parked_bytes),
        ):
            if number < 1:
                raise SetupError(f"stage {name!r} has {what}={number}", where=self.where, fix="use at least 1")
        self.retry = retry or Backoff()
        self.store = store
        self.ports = tuple(ports)
        self.order = order
        self.after_dead = after_dead
        self.batch = batch
        self.slots = slots
        self.time_limit = time_limit
        self.max_parked = max_parked
        self.max_parked_bytes = max_parked_bytes
        self.handlers: list[Handler] = []

    def __repr__(self) -> str:
        return f"Stage({self.name!r})"

    def on(self, function: F) -> F:
        """Make `function` this stage's handler of the event that its first parameter is annotated with.

        Raises `SetupError` naming file and line when annotations are missing or name no event.
        """
        handler = read_handler(self.name, function)
        for other in self.handlers:
            both = set(other.consumes) & set(handler.consumes)
            if both:
                raise SetupError(
                    f"stage {self.name!r} has two handlers of {both.pop().__name__}: {other.name} and {handler.name}",
                    where=handler.where,
                    fix="keep one of them",
                )
        self.handlers.append(handler)
        return function

    @property
    def consumes(self) -> tuple[type, ...]:
        """The events this stage reads from topics; the first is the lead, whose partitions decide who owns what."""
        timers = self.timers
        handled = (cls for handler in self.handlers for cls in handler.consumes)
        return tuple(dict.fromkeys(cls for cls in handled if cls not in timers))

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics of these events, lead first."""
        return tuple(event_info(cls).topic for cls in self.consumes)

    @property
    def emits(self) -> tuple[type, ...]:
        """The events this stage may emit."""
        return tuple(dict.fromkeys(cls for handler in self.handlers for cls in handler.emits))

    @property
    def timers(self) -> tuple[type, ...]:
        """The events this stage may send to itself for later."""
        return tuple(dict.fromkeys(cls for handler in self.handlers for cls in handler.timers))

    @property
    def events(self) -> tuple[type, ...]:
        """Every event it reads, emits or sends to itself: what its codec has to know."""
        return tuple(dict.fromkeys((*self.consumes, *self.timers, *self.emits)))
