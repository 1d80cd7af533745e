"""Signatures: what a handler's annotations say.

The one rule: what flows where follows from them alone, and what they leave open is an error with file and line.
"""

import inspect
import sys
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from streams.errors import SetupError
from streams.record import event_info

T = TypeVar("T")


class Later(msgspec.Struct, Generic[T], frozen=True):
    """An event that the stage sends to itself, to be handled `after` seconds: a deadline, a reminder.

    It waits on the stage's parking table and survives whatever the stage does; it has a schema but no topic of its own. It
    keeps nobody waiting and waits behind nobody: a handler of it asks the store how things stand by then.
    """

    event: T
    after: float


class Handler(msgspec.Struct, frozen=True):
    """A function from one event to the next, as its annotations describe it. `where` is `file:line`.

    `timers` are the events that it returns as `Later`.
    """

    function: Callable[..., Any]
    consumes: tuple[type, ...]
    emits: tuple[type, ...]
    timers: tuple[type, ...]
    asynchronous: bool
    where: str

    @property
    def name(self) -> str:
        """The function's own name."""
        return self.function.__name__


def declared_at(depth: int = 2) -> str:
    """`file:line` of the declaration that is being evaluated."""
    frame = sys._getframe(depth)
    return f"{short_path(frame.f_code.co_filename)}:{frame.f_lineno}"


def short_path(filename: str) -> str:
    """A file's path from here, or as it is if it is elsewhere."""
    try:
        return str(Path(filename).relative_to(Path.cwd()))
    except ValueError:
        return filename


def read_handler(stage: str, function: Callable[..., Any]) -> Handler:
    """A stage's function with what its annotations say. Raises `SetupError` naming file and line."""
    where = f"{short_path(function.__code__.co_filename)}:{function.__code__.co_firstlineno}"
    what = f"handler {function.__name__} of stage {stage!r}"
    example = f"write: async def {function.__name__}(event: SomeEvent, ctx: Context) -> OtherEvent | None"
    parameters = list(inspect.signature(function).parameters.values())
    if len(parameters) != 2:
        raise SetupError(f"{what} has {len(parameters)} parameters, not an event and a context", where=where, fix=example)
    try:
        hints = typing.get_type_hints(function)
    except NameError as error:
        raise SetupError(f"{what}: {error}", where=where, fix="import the annotation's names at run time") from None
    for name in (parameters[0].name, "return"):
        if name not in hints:
            raise SetupError(f"{what} lacks the annotation of {name!r}", where=where, fix=example)
    consumes = _events(hints[parameters[0].name], what, where)
    if not consumes:
        raise SetupError(f"{what} consumes no event", where=where, fix=example)
    emits = _events(hints["return"], what, where)
    timers = _events(hints["return"], what, where, later=True)
    return Handler(function, consumes, emits, timers, inspect.iscoroutinefunction(function), where)


def _events(hint: Any, what: str, where: str, *, later: bool = False) -> tuple[type, ...]:
    """The event classes in an annotation: a class, a union, None, or a tuple, list, sequence or iterable of these.

    `later`: those inside `Later[…]` instead of those outside.
    """
    if hint in (None, types.NoneType, Ellipsis):
        return ()
    if typing.get_origin(hint) is Later:
        return _events(typing.get_args(hint)[0], what, where) if later else ()
    arguments = typing.get_args(hint)
    if arguments:
        found = (cls for argument in arguments for cls in _events(argument, what, where, later=later))
        return tuple(dict.fromkeys(found))
    if not isinstance(hint, type):
        raise SetupError(f"{what} is annotated with {hint!r}", where=where, fix="name event classes")
    try:
        event_info(hint)
    except SetupError as error:
        raise SetupError(f"{what}: {error.what}", where=where, fix=error.fix) from None
    return () if later else (hint,)
