"""The vocabulary of the runtime: records, outputs, event classes.

The one rule: values only. Nothing here does I/O, reads a clock or knows a broker.
"""

from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from streams.errors import SetupError

Header = tuple[str, bytes | None]
Headers = tuple[Header, ...]

ID: Final = "id"
CAUSE: Final = "cause"
BORN: Final = "born"
"""When the source's record that an event goes back to was written: milliseconds since the Unix epoch, in decimal digits."""

T = TypeVar("T", bound=type)


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record as it was read: key, value and headers are the broker's bytes, untouched.

    `timestamp` is in milliseconds since the Unix epoch.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    timestamp: int = 0

    @property
    def place(self) -> str:
        """`topic[partition]@offset`: how logs and errors name a record."""
        return f"{self.topic}[{self.partition}]@{self.offset}"


class Output(msgspec.Struct, frozen=True, gc=False):
    """One record to be written. Without a `partition` the key's murmur2 hash decides, as in every Kafka client."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None


class EventInfo(msgspec.Struct, frozen=True):
    """What `@event` says of a class: its topic and the field whose value is the record's key."""

    topic: str
    key: str


def event(topic: str, *, key: str) -> Callable[[T], T]:
    """Name the topic of an event class and the field that is its key.

    The class is a frozen `msgspec.Struct`; the schema of the same name is the contract that it follows.

        @event("orders.accepted", key="order_id")
        class OrderAccepted(msgspec.Struct, frozen=True): ...

    Raises `SetupError` if the class is no frozen Struct or lacks the key field.
    """

    def mark(cls: T) -> T:
        if not issubclass(cls, msgspec.Struct):
            raise SetupError(f"event class {cls.__qualname__} is no msgspec.Struct", fix="derive it from msgspec.Struct")
        if not cls.__struct_config__.frozen:
            raise SetupError(f"event class {cls.__qualname__} is not frozen", fix="declare it with frozen=True")
        if key not in cls.__struct_fields__:
            raise SetupError(
                f"event class {cls.__qualname__} has no field {key!r}, which @event names as its key",
                fix=f"use one of: {', '.join(cls.__struct_fields__)}",
            )
        cls.__event__ = EventInfo(topic, key)  # type: ignore[attr-defined]  # a Struct's class takes attributes, its type does not say so
        return cls

    return mark


def event_info(cls: type) -> EventInfo:
    """The topic and key of an event class. Raises `SetupError` for a class without `@event`."""
    info = cls.__dict__.get("__event__")
    if not isinstance(info, EventInfo):
        raise SetupError(
            f"{cls.__module__}.{cls.__qualname__} is no event", fix='decorate the class with @event("topic", key="field")'
        )
    return info
