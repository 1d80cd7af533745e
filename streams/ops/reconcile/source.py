"""Collecting from a live Kafka, on one cut.

The one rule: ends are taken once and in this order: the receipts' first, so that all that they tell of is in what is read
after; then those of everything that is judged; then, for evidence only, those of everything once more. No group is joined.
"""

import time
from collections.abc import Callable, Mapping

from confluent_kafka.admin import AdminClient

from streams import names, topics
from streams.config import Settings
from streams.errors import SetupError
from streams.ops.reconcile.chain import Committed
from streams.ops.reconcile.findings import Result
from streams.ops.reconcile.judge import judge
from streams.ops.reconcile.ledger import Ledger
from streams.ops.scan import Scan, committed
from streams.record import event_info
from streams.session import Place

Seen = Callable[[int, int], object]
"""Is told how many records were read, of about how many."""


def reconcile(settings: Settings, ledger: Ledger, *, start: int | None = None, seen: Seen | None = None) -> Result:
    """Read everything, or what is not older than `start` (milliseconds since the epoch), and judge it.

    Raises `SetupError` when the cluster does not answer or a topic is missing.
    """
    topology = ledger.topology
    admin = topics.connect(settings)
    groups = [names.group(topology.name, stage.name) for stage in topology.stages]
    receipts = names.receipts(topology.name)
    told = _Told(seen)
    now = ledger.taken_at = int(time.time() * 1000)
    if topology.books is not None:
        topology.books.load(ledger)
    before = committed(admin, groups)
    with Scan(settings, admin, [receipts]) as scan:
        _begin(scan, ledger, start)
        told.expect(scan)
        _read(scan, ledger, told)
        tail = dict(scan.next)
        with Scan(settings, admin, [topic for topic in ledger.read if topic != receipts]) as others:
            places = list(others.next)
            subjects = others.ends(places, decided=True)
            begun = _begin(others, ledger, start)
            ledger.bounds(begun, subjects)
            told.expect(others)
            _read(others, ledger, told)
        scan.seek(tail)
        ledger.tail = True
        _read(scan, ledger, told)
    after = committed(admin, groups)
    return judge(ledger, now, keeps=_keeps(admin, ledger), before=before, after=_still(ledger, after))


def _begin(scan: Scan, ledger: Ledger, start: int | None) -> dict[Place, int]:
    """Seek to where reading begins, and say where that is: what is no longer kept, or is too old, is not read."""
    first = scan.begins(scan.next)
    if start is not None:
        dated = {*(event_info(cls).topic for cls in ledger.topology.events), names.receipts(ledger.topology.name)}
        since = scan.since({place: start for place in first if place[0] in dated})
        first |= {place: max(first[place], offset) for place, offset in since.items()}
        ledger.complete = False
    scan.seek(first)
    return first


def _read(scan: Scan, ledger: Ledger, told: "_Told") -> None:
    batch = []
    for record in scan.to_end(decided=True):
        batch.append(record)
        if len(batch) == 500:
            ledger.take(batch)
            told.more(len(batch))
            batch = []
    ledger.take(batch)
    told.more(len(batch))


def _still(ledger: Ledger, after: Committed) -> Committed:
    """Offsets from after the reading are news only where no receipt came meanwhile: else a stage was at work."""
    moved = {stage for (stage,) in ledger.sql.execute("SELECT DISTINCT stage FROM receipt WHERE tail")}
    quiet = {names.group(ledger.topology.name, name) for number, name in enumerate(ledger.stages) if number not in moved}
    return {group: places for group, places in after.items() if group in quiet}


def _keeps(admin: AdminClient, ledger: Ledger) -> Mapping[str, float]:
    """See `topics.keeps`."""
    try:
        return topics.keeps(admin, [topic for topic in ledger.topics if topic in ledger.read])
    except SetupError:  # we may not ask: then it may have removed anything
        return dict.fromkeys(ledger.topics, 0.0)


class _Told:
    """How far the reading has come."""

    def __init__(self, seen: Seen | None) -> None:
        self._seen = seen
        self._done = self._total = 0

    def expect(self, scan: Scan) -> None:
        ends = scan.ends(scan.next, decided=True)
        self._total += sum(max(0, end - scan.next[place]) for place, end in ends.items())

    def more(self, count: int) -> None:
        self._done += count
        if self._seen is not None:
            self._seen(self._done, self._total)
