"""A flow whose records die on demand: what befalls a record is in it, or in a file that a test makes and takes away.

The one rule: a test says who dies, and takes the reason away when it likes, while workers run.

`sent` → **keeper** → `kept`; `sent` → **holder** (keeps a key closed behind its dead) → `held`.
TOWPATH_CLINIC names this copy of the flow, so that several live on one broker; TOWPATH_CLINIC_HOME holds its schemas.
"""

import json
import os
import shutil
from pathlib import Path

import msgspec

from streams.errors import Reject
from streams.record import event
from streams.release import lock_schemas
from streams.stage import Context, Stage
from streams.topology import Topology

NAME = os.environ.get("TOWPATH_CLINIC", "clinic")
HOME = Path(os.environ.get("TOWPATH_CLINIC_HOME", "."))
PARTITIONS = 2
EVENTS = {"Sent": "sent", "Kept": "kept", "Held": "held"}


@event(f"{NAME}.sent", key="key")
class Sent(msgspec.Struct, frozen=True):
    """What comes in."""

    key: str
    size: int


@event(f"{NAME}.kept", key="key")
class Kept(msgspec.Struct, frozen=True):
    """What the keeper lets out."""

    key: str
    size: int


@event(f"{NAME}.held", key="key")
class Held(msgspec.Struct, frozen=True):
    """What the holder lets out."""

    key: str
    size: int


keeper = Stage("keeper")
holder = Stage("holder", after_dead="hold")


@keeper.on
def keep(sent: Sent, _ctx: Context) -> Kept:
    """Keep it, unless it is below zero or the fridge is broken."""
    if sent.size < 0:
        raise Reject("below zero")
    if (HOME / "broken").exists():
        raise Reject("the fridge is broken")
    return Kept(sent.key, sent.size)


@holder.on
def hold(sent: Sent, _ctx: Context) -> Held:
    """Let it through, unless it is unlucky."""
    if sent.size == 13:
        raise Reject("unlucky")
    return Held(sent.key, sent.size)


def write_schemas(home: Path, name: str) -> None:
    """The contracts of the copy of this name, released."""
    for record, topic in EVENTS.items():
        fields = [{"name": "key", "type": "string"}, {"name": "size", "type": "long"}]
        path = home / "clinic" / record / "v1.avsc"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"type": "record", "name": record, "topic": f"{name}.{topic}", "fields": fields}))
    shutil.copytree(Path(__file__).parents[3] / "schemas" / "streams", home / "streams")
    lock_schemas(home)


flow = Topology(
    NAME, sources=[Sent], stages=[keeper, holder], sinks=[Kept, Held], partitions=PARTITIONS, schemas=HOME / "schemas"
)
