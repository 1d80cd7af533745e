"""Forgetting events that cannot come again, so that the inbox does not grow for ever.

The one rule: position decides, never the clock alone. A row goes only if its record lies below its group's committed offset and
no longer waits in the stage's parking table; what is left to come again are copies, and how long those are known is the age.

The order of the questions matters: offsets first, then the table. A record that is below the offset by then is in the table or
is done; a table that was read first could have missed one that was parked in between.
"""

import time

import msgspec
from confluent_kafka.admin import AdminClient

from streams import names, topics
from streams.config import Settings
from streams.errors import SetupError
from streams.ops.scan import Scan, committed
from streams.session import Place
from streams.stage import Stage
from streams.store import Inbox
from streams.topology import Topology

SHORTEST = 3600.0
"""Seconds that a row is kept in any case: a worker that was frozen in between could still come with its record."""


class Pruned(msgspec.Struct, frozen=True):
    """What became of one stage's rows: `old` are those past the age, `pruned` those of them that went (or would go)."""

    stage: str
    old: int
    pruned: int


def prune(topology: Topology, settings: Settings, before: float, *, dry_run: bool = False) -> list[Pruned]:
    """Forget what was recorded before a time (seconds since the Unix epoch). Safe while the stages are at work.

    Raises `SetupError` for a time less than an hour ago, and for a cluster or a database that cannot be reached.
    """
    if before > time.time() - SHORTEST:
        raise SetupError("an hour is the shortest age", where="--older-than", fix="name a longer one, such as 2h or 7d")
    admin = topics.connect(settings)
    return [
        _prune(topology, stage, settings, admin, before, dry_run=dry_run)
        for stage in topology.stages
        if stage.store is not None
    ]


def _prune(  # one stage's part of the above
    topology: Topology, stage: Stage, settings: Settings, admin: AdminClient, before: float, *, dry_run: bool
) -> Pruned:
    group = names.group(topology.name, stage.name)
    offsets = committed(admin, [group])[group]
    parked = _parked(settings, admin, names.retry(topology.name, stage.name))

    def done(place: Place, offset: int) -> bool:
        # A timer was never on a topic of its own: its offset is below 0, and the table alone says whether it is done.
        topic, partition = place
        return offset < offsets.get(place, 0) and f"{topic}/{partition}/{offset}".encode() not in parked

    assert stage.store is not None  # noqa: S101  # for mypy: the caller has looked
    inbox = Inbox(settings.store, group, stage.store)
    inbox.open()
    try:
        counts = inbox.prune(before, done, dry_run=dry_run)
    finally:
        inbox.close()
    return Pruned(stage.name, counts["old"], counts["pruned"])


def _parked(settings: Settings, admin: AdminClient, table: str) -> frozenset[bytes]:
    """The keys of all that waits; whoever wrote it, and whether or not it can be read."""
    waiting: set[bytes] = set()
    with Scan(settings, admin, [table]) as scan:
        for record in scan.to_end(decided=True):
            key = record.key or b""
            if record.value is None:
                waiting.discard(key)
            else:
                waiting.add(key)
    return frozenset(waiting)
