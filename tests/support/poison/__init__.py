"""A flow whose records are bad for the process that handles them: what each does is the word that it holds.

The one rule: only the word decides, so that the record does it again wherever it is handled.

`asked` → **eater** → `eaten`.
TOWPATH_POISON names this copy of the flow, so that several live on one broker; TOWPATH_POISON_HOME holds its schemas.
"""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import msgspec

from streams.record import event
from streams.release import lock_schemas
from streams.stage import Context, Stage
from streams.topology import Topology

NAME = os.environ.get("TOWPATH_POISON", "poison")
HOME = Path(os.environ.get("TOWPATH_POISON_HOME", "."))
PARTITIONS = 2
EVENTS = {"Asked": "asked", "Eaten": "eaten"}


@event(f"{NAME}.asked", key="key")
class Asked(msgspec.Struct, frozen=True):
    """`word` is `kill`, `block` or anything harmless."""

    key: str
    seq: int
    word: str


@event(f"{NAME}.eaten", key="key")
class Eaten(msgspec.Struct, frozen=True):
    """What was harmless."""

    key: str
    seq: int


eater = Stage("eater", batch=50, time_limit=1.0)


@eater.on
def eat(asked: Asked, _ctx: Context) -> Eaten:
    """Die of it, be stuck with it until the file `free` exists, or let it through."""
    if asked.word == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    while asked.word == "block" and not (HOME / "free").exists():
        time.sleep(0.02)  # a handler that does not return is what this is
    return Eaten(asked.key, asked.seq)


def write_schemas(home: Path, name: str) -> None:
    """The contracts of the copy of this name, released."""
    fields = {"key": "string", "seq": "long", "word": "string"}
    for record, topic in EVENTS.items():
        own = [{"name": field, "type": kind} for field, kind in fields.items() if (record, field) != ("Eaten", "word")]
        path = home / "poison" / record / "v1.avsc"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"type": "record", "name": record, "topic": f"{name}.{topic}", "fields": own}))
    shutil.copytree(Path(__file__).parents[3] / "schemas" / "streams", home / "streams")
    lock_schemas(home)


flow = Topology(NAME, sources=[Asked], stages=[eater], sinks=[Eaten], partitions=PARTITIONS, schemas=HOME / "schemas")
