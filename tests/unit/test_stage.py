"""What a declaration says, and what it says when it is wrong."""

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streams.config import Settings
from streams.errors import SetupError
from streams.record import Record, event
from streams.stage import Backoff, Context, Port, Stage, Store


@event("shop.asked", key="id")
class Asked(msgspec.Struct, frozen=True):
    id: str


@event("shop.answered", key="id")
class Answered(msgspec.Struct, frozen=True):
    id: str


@event("shop.refused", key="id")
class Refused(msgspec.Struct, frozen=True):
    id: str


class Plain(msgspec.Struct, frozen=True):
    id: str


def never_connected(settings: Settings) -> AbstractContextManager[str]:
    raise AssertionError(settings)


RECORD = Record("shop.asked", 0, 7, b"k", b"v")


def test_annotations_say_what_flows() -> None:
    desk = Stage("desk")

    @desk.on
    def answer(asked: Asked, ctx: Context) -> Answered | Refused | None:
        """Answer."""

    @desk.on
    async def again(refused: Refused, ctx: Context) -> Sequence[Answered] | tuple[Asked, ...]: ...  # type: ignore[empty-body]  # never called

    assert desk.consumes == (Asked, Refused)
    assert desk.emits == (Answered, Refused, Asked)
    assert [(h.name, h.asynchronous) for h in desk.handlers] == [("answer", False), ("again", True)]
    assert answer(Asked("1"), Context(RECORD, "e")) is None  # still the plain function that it was


def no_event(ctx: Context) -> Answered: ...  # type: ignore[empty-body]  # never called
def no_parameter_hint(asked, ctx: Context) -> Answered: ...  # type: ignore[no-untyped-def,empty-body]  # what is tested
def no_return_hint(asked: Asked, ctx: Context): ...  # type: ignore[no-untyped-def]  # what is tested
def not_marked(asked: Plain, ctx: Context) -> Answered: ...  # type: ignore[empty-body]  # never called
def emits_text(asked: Asked, ctx: Context) -> str: ...  # type: ignore[empty-body]  # never called
def consumes_any(asked: Any, ctx: Context) -> None: ...
def consumes_nothing(asked: None, ctx: Context) -> Answered: ...  # type: ignore[empty-body]  # never called
def unknown_name(asked: "Nowhere", ctx: Context) -> None: ...  # type: ignore[name-defined]  # noqa: F821  # what is tested


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (no_event, "has 1 parameters"),
        (no_parameter_hint, "lacks the annotation of 'asked'"),
        (no_return_hint, "lacks the annotation of 'return'"),
        (not_marked, "Plain is no event"),
        (emits_text, "str is no event"),
        (consumes_any, "typing.Any is no event"),
        (consumes_nothing, "consumes no event"),
        (unknown_name, "'Nowhere' is not defined"),
    ],
)
def test_a_handler_that_cannot_be_read_is_named_with_its_line(function: Callable[..., Any], says: str) -> None:
    with pytest.raises(SetupError, match=re.escape(says)) as caught:
        Stage("desk").on(function)
    assert caught.value.where == f"tests/unit/test_stage.py:{function.__code__.co_firstlineno}"
    assert caught.value.fix


def test_two_handlers_of_one_event_are_refused() -> None:
    desk = Stage("desk")

    @desk.on
    def one(asked: Asked, ctx: Context) -> None: ...

    with pytest.raises(SetupError, match="two handlers of Asked: one and two"):

        @desk.on
        def two(asked: Asked | Refused, ctx: Context) -> None: ...


@pytest.mark.parametrize(
    "declare",
    [
        lambda: Stage("Desk"),
        lambda: Stage("desk", order="never"),  # type: ignore[arg-type]  # what is tested
        lambda: Stage("desk", batch=0),
        lambda: Backoff(attempts=0),
        lambda: Backoff(first=2, ceiling=1),
        lambda: Port("mail server", never_connected),
        lambda: Store("", tables=None, migrations=Path(), repository=str),
    ],
)
def test_a_bad_declaration_names_its_line_and_what_to_do(declare: Callable[[], object]) -> None:
    with pytest.raises(SetupError) as caught:
        declare()
    assert caught.value.where.startswith("tests/unit/test_stage.py:")
    assert caught.value.fix


def test_a_handler_uses_only_what_its_stage_declares() -> None:
    mail: Port[str] = Port("mail", never_connected)
    other: Port[str] = Port("other", never_connected)
    ctx = Context(RECORD, "e1", "desk", 1, 0.0, {mail: "open"})
    assert ctx.use(mail) == "open"
    with pytest.raises(SetupError, match="stage 'desk' uses 'other', which it does not declare"):
        ctx.use(other)


def test_the_time_of_a_context_is_utc_and_whole_milliseconds() -> None:
    time = Context(RECORD, "e1", "desk", 1, 1500000000.1239).time
    assert time.isoformat() == "2017-07-14T02:40:00.123000+00:00"


def test_a_context_that_is_logged_tells_no_value_and_no_port() -> None:
    ctx = Context(Record("asked", 1, 7, b"k", b"card 4111"), "e1", "desk", 2, 0.0, {"mail": "a secret"})
    assert repr(ctx) == "<Context of desk at asked[1]@7, attempt 2>"
