"""The lag exporter: what the cluster knows of a topology's stages, for Prometheus, whether or not a worker lives.

The one rule: a failed look is shown as failed, and its old figures are not: who is told nothing must not take it for good news.
"""

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Self

from streams.catalogue import RECONCILE
from streams.config import Settings
from streams.dead import Case, State
from streams.errors import SetupError
from streams.ops.brokers import Brokers, look
from streams.ops.cases import Book
from streams.ops.lag import Lag, Looks
from streams.session import Place
from streams.telemetry import MEDIA_TYPE, Sample, exposition, readable
from streams.topics import plan
from streams.topology import Topology

log = logging.getLogger("towpath.lag")

_ANEW: Final = 60  # looks after which everything is opened anew: topics may have got more partitions
_RECONCILED: Final = frozenset(family.name for family in RECONCILE)


class Stalls:
    """For how long each partition's last stable offset has stood still while there is something behind it."""

    def __init__(self) -> None:
        self._since: dict[Place, tuple[int, float]] = {}

    def seconds(self, place: Place, stable: int, gap: int, now: float) -> float:
        """As of this look; `now` is monotonic."""
        if not gap:
            self._since.pop(place, None)
            return 0.0
        seen, since = self._since.get(place, (stable, now))
        if seen != stable:
            since = now
        self._since[place] = (stable, since)
        return now - since


def of_lags(topology: str, lags: Iterable[Lag], stalls: Stalls, now: float) -> Iterator[Sample]:
    """How far behind each stage is, and which partitions have an open transaction. `now` is monotonic."""
    members: dict[str, int] = {}
    places: dict[Place, Lag] = {}
    for one in lags:
        at = (topology, one.stage, one.topic, str(one.partition))
        yield "towpath_group_lag_records", at, one.records
        yield "towpath_group_lag_seconds", at, one.seconds
        if one.at is not None:
            yield "towpath_group_committed_offset", at, one.at
        members[one.stage] = one.members
        places[one.topic, one.partition] = one
    for stage, count in members.items():
        yield "towpath_group_members", (topology, stage), count
    for (topic, partition), one in places.items():
        where = (topology, topic, str(partition))
        yield "towpath_topic_end_offset", where, one.end
        yield "towpath_lso_gap_records", where, one.undecided
        stalled = stalls.seconds((topic, partition), one.end, one.undecided, now)
        yield "towpath_lso_stalled_seconds", where, stalled


def of_cases(topology: Topology, cases: Iterable[Case], now: datetime) -> Iterator[Sample]:
    """How many cases are open, and since when the oldest is."""
    found: dict[str, list[datetime]] = {stage.name: [] for stage in topology.stages}
    for case in cases:
        if case.state is State.OPEN and case.stage in found:
            found[case.stage].append(case.last_failed_at)
    for stage, died in found.items():
        yield "towpath_cases_open", (topology.name, stage), len(died)
        age = max((now - min(died)).total_seconds(), 0.0) if died else 0.0
        yield "towpath_cases_oldest_seconds", (topology.name, stage), age


def of_brokers(topology: str, brokers: Brokers) -> Iterator[Sample]:
    """What the cluster's metadata say of the topology's topics."""
    yield "towpath_brokers", (topology,), brokers.count
    for one in brokers.topics:
        yield "towpath_partitions_offline", (topology, one.topic), one.offline
        yield "towpath_partitions_under_replicated", (topology, one.topic), one.under_replicated


class Exporter:
    """Looks at the cluster every so many seconds, on a thread of its own. As a context manager it ends with it.

    `include` is the text file of a reconciliation, which is served as well.
    """

    def __init__(self, settings: Settings, topology: Topology, *, every: float = 10.0, include: Path | None = None) -> None:
        self._settings, self._topology, self._include = settings, topology, include
        self._topics = [spec.name for spec in plan(topology)]
        self._every = every
        self._stalls = Stalls()
        self._samples: list[Sample] = [("towpath_lag_up", (topology.name,), 0)]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="towpath-lag", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(10)

    def page(self) -> bytes:
        """What `/metrics` answers."""
        text = _text(self._include) if self._include else ""
        return exposition(self._samples, more=readable(text, _RECONCILED))

    def _run(self) -> None:
        silent = ""
        while not self._ended.is_set():
            with ExitStack() as opened:
                try:
                    looks = opened.enter_context(Looks(self._settings, self._topology))
                    book = opened.enter_context(Book(self._settings, self._topology))
                    for _ in range(_ANEW):
                        self._samples = list(self._look(looks, book))
                        if silent:
                            log.info("the cluster answers again")
                        silent = ""
                        if self._ended.wait(self._every):
                            return
                except SetupError as error:
                    self._samples = [("towpath_lag_up", (self._topology.name,), 0)]
                    if str(error) != silent:
                        log.warning("nothing can be said of the lag: %s", error)
                    silent = str(error)
                    self._ended.wait(self._every)

    def _look(self, looks: Looks, book: Book) -> Iterator[Sample]:
        name, began = self._topology.name, time.monotonic()
        yield from of_lags(name, looks.look(), self._stalls, time.monotonic())
        try:
            book.read()
        except SetupError as error:  # somebody wrote what is no case: that hides neither the others nor the lag
            log.warning("%s", error)
        yield from of_cases(self._topology, book.cases.values(), datetime.now(UTC))
        yield from of_brokers(name, look(looks.admin, self._topics))
        yield "towpath_lag_look_duration_seconds", (name,), time.monotonic() - began
        yield "towpath_lag_up", (name,), 1


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:  # no reconciliation has been made yet: that it is missing is seen by its absence
        return ""


def serve(exporter: Exporter, host: str, port: int) -> ThreadingHTTPServer:
    """A server of `GET /metrics`, not yet at work; port 0 is a free one. Raises `SetupError` if the address is taken."""

    class Page(BaseHTTPRequestHandler):
        """One request."""

        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/metrics":
                self.send_error(404, "there is only /metrics")
                return
            page = exporter.page()
            self.send_response(200)
            self.send_header("Content-Type", MEDIA_TYPE)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: Any) -> None:
            """Not a line for each look."""

    try:
        return ThreadingHTTPServer((host, port), Page)
    except (OSError, OverflowError) as error:
        raise SetupError(f"cannot listen: {error}", where=f"{host}:{port}", fix="choose another --serve HOST:PORT") from None
