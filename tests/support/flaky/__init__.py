"""A flow that fails on purpose: what a record suffers follows from its key, its sequence number and the attempt.

The one rule: whoever knows what was sent knows what must come out, and in which order, without asking the flow.

`asked` → **split** (synchronous) → `even` | `odd` → **join** (asynchronous, two inputs) → `answered`.
TOWPATH_FLAKY names this copy of the flow, so that several live on one broker; TOWPATH_FLAKY_HOME holds its schemas.
"""

import asyncio
import json
import os
import shutil
import zlib
from pathlib import Path

import msgspec

from streams.errors import Reject, Retry
from streams.record import event
from streams.release import lock_schemas
from streams.stage import Backoff, Context, Stage
from streams.topology import Topology

NAME = os.environ.get("TOWPATH_FLAKY", "flaky")
HOME = Path(os.environ.get("TOWPATH_FLAKY_HOME", "."))
PARTITIONS = 6
ATTEMPTS = 5
EVENTS = {"Asked": "asked", "Even": "even", "Odd": "odd", "Answered": "answered"}


@event(f"{NAME}.asked", key="key")
class Asked(msgspec.Struct, frozen=True):
    """Number `seq` of its key."""

    key: str
    seq: int


@event(f"{NAME}.even", key="key")
class Even(msgspec.Struct, frozen=True):
    """One whose key has an even hash."""

    key: str
    seq: int


@event(f"{NAME}.odd", key="key")
class Odd(msgspec.Struct, frozen=True):
    """One whose key has an odd hash."""

    key: str
    seq: int


@event(f"{NAME}.answered", key="key")
class Answered(msgspec.Struct, frozen=True):
    """The end of the way."""

    key: str
    seq: int


def fate(stage: str, key: str, seq: int) -> str:
    """What a stage makes of a record: `rejected` (0.3 %), `poison` (0.3 %: it fails at every attempt), `busy` (6 %), `good`."""
    number = zlib.crc32(f"{stage}/{key}/{seq}".encode()) % 1000
    return "rejected" if number < 3 else "poison" if number < 6 else "busy" if number < 66 else "good"


def suffer(stage: str, key: str, seq: int, attempt: int) -> None:
    """Raise what the record's fate has for this attempt; a busy one fails once, twice or three times."""
    match fate(stage, key, seq):
        case "rejected":
            raise Reject("it is not wanted")
        case "poison":
            raise ValueError("a bug")
        case "busy" if attempt <= 1 + zlib.crc32(f"{key}/{seq}".encode()) % 3:
            if attempt % 2:
                raise Retry("busy")
            raise KeyError("a defect that comes and goes")


split = Stage("split", retry=Backoff(attempts=ATTEMPTS, first=0.05, ceiling=0.4), batch=40)
join = Stage("join", retry=Backoff(attempts=ATTEMPTS, first=0.05, ceiling=0.4), batch=40, slots=8)


@split.on
def part(asked: Asked, ctx: Context) -> Even | Odd:
    """Send it on by its key."""
    suffer("split", asked.key, asked.seq, ctx.attempt)
    return (Odd if zlib.crc32(asked.key.encode()) % 2 else Even)(asked.key, asked.seq)


@join.on
async def answer(parted: Even | Odd, ctx: Context) -> Answered:
    """Bring both back together."""
    await asyncio.sleep(0)
    suffer("join", parted.key, parted.seq, ctx.attempt)
    return Answered(parted.key, parted.seq)


def write_schemas(home: Path, name: str) -> None:
    """The contracts of the copy of this name, released."""
    for record, topic in EVENTS.items():
        fields = [{"name": "key", "type": "string"}, {"name": "seq", "type": "long"}]
        path = home / "flaky" / record / "v1.avsc"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"type": "record", "name": record, "topic": f"{name}.{topic}", "fields": fields}))
    shutil.copytree(Path(__file__).parents[3] / "schemas" / "streams", home / "streams")
    lock_schemas(home)


flow = Topology(NAME, sources=[Asked], stages=[split, join], sinks=[Answered], partitions=PARTITIONS, schemas=HOME)
