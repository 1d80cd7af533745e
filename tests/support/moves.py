"""A stage whose every step is written in its events: what the tests of the machine drive.

The one rule: an event says what each attempt at it does, so that a test knows the end of it without looking at the machine.
"""

import asyncio
import atexit
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec

from streams.config import Settings
from streams.errors import Reject, Retry, Unavailable
from streams.memory.session import Crashed
from streams.record import event
from streams.registry import default_folder
from streams.release import lock_schemas
from streams.stage import Backoff, Context, Port, Stage
from streams.testing import Simulation
from streams.topology import Topology


@event("moves.asked", key="who")
class Asked(msgspec.Struct, frozen=True):
    """`moves` has one word for each attempt: `done:3` (outputs), `retry`, `wait:5` (seconds), `bug`, `reject` or `die`."""

    who: str
    number: int
    moves: tuple[str, ...] = ()


@event("moves.told", key="who")
class Told(msgspec.Struct, frozen=True):
    """The same on a second input."""

    who: str
    number: int
    moves: tuple[str, ...] = ()


@event("moves.answered", key="who")
class Answered(msgspec.Struct, frozen=True):
    """The `index`-th output for event `number`."""

    who: str
    number: int
    index: int


class World:
    """What is outside: a dependency that may be away, mended events, and a list of all attempts: (number, attempt, time)."""

    def __init__(self) -> None:
        self.away = False
        self.mended: set[int] = set()
        self.attempts: list[tuple[int, int, float]] = []


BACKOFF = Backoff(attempts=3, first=1.0, ceiling=8.0)
MENDED = 2
"""How many outputs a mended event has."""


@contextmanager
def _connect(_: Settings) -> Iterator[World]:
    yield World()


world: Port[World] = Port("world", _connect)


def move(moves: tuple[str, ...], attempt: int) -> str:
    """What the `attempt`-th attempt does; there is always a last one that succeeds."""
    return moves[attempt - 1] if attempt <= len(moves) else "done:1"


def _play(asked: Asked | Told, ctx: Context) -> tuple[Answered, ...]:
    at = ctx.use(world)
    if at.away:
        raise Unavailable("world")
    at.attempts.append((asked.number, ctx.attempt, ctx.now))
    word, _, detail = move(asked.moves, ctx.attempt).partition(":")
    if asked.number in at.mended:
        word, detail = "done", str(MENDED)
    match word:
        case "retry":
            raise Retry("not yet")
        case "wait":
            raise Retry("not yet", after=float(detail))
        case "reject":
            raise Reject("never")
        case "die":
            raise Crashed
        case "bug":
            raise ZeroDivisionError("a bug")
    return tuple(Answered(asked.who, asked.number, index) for index in range(int(detail)))


def make(
    order: Literal["key", "none"] = "key",
    after_dead: Literal["continue", "hold"] = "continue",
    *,
    asynchronous: bool = False,
    **options: Any,
) -> Topology:
    """The topology `moves` with one stage, `play`."""
    play = Stage("play", retry=BACKOFF, ports=[world], order=order, after_dead=after_dead, **options)

    def ask(asked: Asked, ctx: Context) -> tuple[Answered, ...]:
        return _play(asked, ctx)

    def tell(told: Told, ctx: Context) -> tuple[Answered, ...]:
        return _play(told, ctx)

    async def ask_slowly(asked: Asked, ctx: Context) -> tuple[Answered, ...]:
        await asyncio.sleep(0)
        return _play(asked, ctx)

    async def tell_slowly(told: Told, ctx: Context) -> tuple[Answered, ...]:
        await asyncio.sleep(0)
        return _play(told, ctx)

    play.on(ask_slowly if asynchronous else ask)
    play.on(tell_slowly if asynchronous else tell)
    return Topology("moves", sources=[Asked, Told], stages=[play], sinks=[Answered], partitions=2, schemas=schemas())


def start(topology: Topology | None = None, at: World | None = None, *, workers: int = 1) -> Simulation:
    """A simulation of it."""
    flow = Simulation(topology or make(), stages=(), ports={world: at or World()}, session_timeout=10.0)
    for number in range(workers):
        flow.start("play", "abc"[number])
    return flow


@cache
def schemas() -> Path:
    """The schemas of these events, and the runtime's own."""
    root = Path(tempfile.mkdtemp(prefix="towpath-moves-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    shutil.copytree(default_folder() / "streams", root / "streams")
    asked = {"who": "string", "number": "long", "moves": {"type": "array", "items": "string"}}
    answered = {"who": "string", "number": "long", "index": "long"}
    for name, topic, fields in (
        ("Asked", "moves.asked", asked),
        ("Told", "moves.told", asked),
        ("Answered", "moves.answered", answered),
    ):
        raw = {
            "type": "record",
            "name": name,
            "namespace": "moves",
            "topic": topic,
            "fields": [
                {"name": field, "type": kind} | ({"default": []} if field == "moves" else {}) for field, kind in fields.items()
            ],
        }
        path = root / "moves" / name / "v1.avsc"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(raw), encoding="utf-8")
    lock_schemas(root)
    return root
