"""Where `towpath top` looks: at workers' pages, or straight at the cluster.

The one rule: it only looks. A worker that does not answer is named, and the others are shown.
"""

import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Final, Self

import msgspec

from streams import names, topics
from streams.codec import Codec
from streams.config import Settings
from streams.dead import State
from streams.errors import DecodeError, SetupError
from streams.ops.cases import Book
from streams.ops.figures import Behind, Figures, Row, Seen, Window
from streams.ops.lag import Looks
from streams.ops.scan import Scan
from streams.parked import parse
from streams.receipts import Receipt
from streams.record import Record
from streams.registry import FolderRegistry
from streams.session import Place
from streams.telemetry import read
from streams.topology import Topology

_PATIENCE: Final = 3.0  # seconds for a page
_LARGEST: Final = 16 * 2**20  # bytes of a page that are read
_CLUSTER: Final = "the cluster"
_COUNTERS: Final = {
    "messaging_client_consumed_messages_total": "consumed",
    "messaging_client_sent_messages_total": "sent",
    "towpath_transaction_duration_seconds_count": "transactions",
    "towpath_dead_total": "dead",
}
_BEHIND: Final = {
    "towpath_group_lag_records": "records",
    "towpath_group_members": "members",
    "towpath_cases_open": "cases",
}


class Workers:
    """Pages of workers, and of the lag exporter if one is among them. `silent` says which did not answer, and why.

    `urls` is asked before each look: workers come and go.
    """

    def __init__(self, topology: str, urls: Callable[[], Sequence[str]]) -> None:
        self.silent: dict[str, str] = {}
        self.behind: dict[str, Behind] = {}
        self._topology = topology
        self._urls = urls

    def look(self) -> dict[Seen, Figures]:
        """What they say now."""
        urls = [url.rstrip("/") for url in self._urls()]
        self.silent, self.behind = {}, {}
        seen: dict[Seen, Figures] = {}
        if urls:
            with ThreadPoolExecutor(min(len(urls), 16)) as pool:
                for url, found in zip(urls, pool.map(self._ask, urls), strict=True):
                    seen |= {(url, stage): figures for stage, figures in found.items()}
        return seen

    def _ask(self, url: str) -> dict[str, Figures]:
        try:
            samples = read(_get(f"{url}/metrics").decode())
        except (OSError, ValueError) as error:
            self.silent[url] = str(error)
            return {}
        found: dict[str, Figures] = defaultdict(Figures)
        for name, labels, value in samples:
            if labels.get("topology") == self._topology and (stage := labels.get("stage")):
                self._take(found, stage, (name, labels, value))
        for stage, why in self._reasons(url).items():
            if stage in found:
                found[stage].why = why
        return found

    def _take(self, found: dict[str, Figures], stage: str, sample: tuple[str, dict[str, str], float]) -> None:
        name, labels, value = sample
        if (counter := _COUNTERS.get(name)) is not None:
            setattr(found[stage], counter, getattr(found[stage], counter) + value)
        elif name == "towpath_parked_records":
            kind = "timers" if labels.get("kind") == "timer" else "parked"
            setattr(found[stage], kind, getattr(found[stage], kind) + value)
        elif name == "towpath_stage_duration_seconds_bucket":
            found[stage].buckets[float(labels["le"])] = value
        elif (field := _BEHIND.get(name)) is not None:
            behind = self.behind.setdefault(stage, Behind())
            setattr(behind, field, getattr(behind, field) + int(value))
        elif name == "towpath_group_lag_seconds":
            behind = self.behind.setdefault(stage, Behind())
            behind.seconds = max(behind.seconds, value)

    def _reasons(self, url: str) -> Mapping[str, str]:
        """Why each of its stages does not go on; nothing for who has no such page."""
        try:
            page: dict[str, Any] = msgspec.json.decode(_get(f"{url}/health"))
            return {one["stage"]: str(one["reason"]) for one in page["stages"] if one["reason"]}
        except (OSError, ValueError, KeyError, TypeError):
            return {}


def _get(url: str) -> bytes:
    """A page, also one of a worker that says that it is not well."""
    try:
        with urllib.request.urlopen(url, timeout=_PATIENCE) as reply:  # noqa: S310  # http or https: `address_of` has seen to it
            return bytes(reply.read(_LARGEST))
    except urllib.error.HTTPError as error:
        with error:
            if error.code != 503:
                raise
            return error.read(_LARGEST)


class Groups:
    """How far behind each group is, and how many cases are open. As a context manager it is closed at the end."""

    def __init__(self, settings: Settings, topology: Topology) -> None:
        self._looks = Looks(settings, topology)
        self._book = Book(settings, topology)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._looks.__exit__(*exc)
        self._book.__exit__(*exc)

    def look(self) -> dict[str, Behind]:
        """By stage. Raises `SetupError` if the cluster does not answer."""
        found: dict[str, Behind] = defaultdict(Behind)
        for lag in self._looks.look():
            behind = found[lag.stage]
            behind.records += lag.records
            behind.seconds = max(behind.seconds, lag.seconds)
            behind.members = lag.members
        self._book.read()
        for case in self._book.cases.values():
            if case.state is State.OPEN and case.stage in found:
                found[case.stage].cases += 1
        return found


class Topics:
    """What receipts and parking tables tell where no worker's page can be asked. As a context manager it is closed at the end.

    Counters begin with the first look. How long records took is not known here.
    """

    def __init__(self, settings: Settings, topology: Topology) -> None:
        self._stages = {names.retry(topology.name, stage.name): stage.name for stage in topology.stages}
        self._receipts = names.receipts(topology.name)
        self._decode = Codec([Receipt], FolderRegistry(topology.schemas)).decoder(Receipt)
        self._scan = Scan(settings, topics.connect(settings), [*self._stages, self._receipts])
        self._figures = {stage.name: Figures() for stage in topology.stages}
        self._parked: dict[str, dict[tuple[int, bytes | None], bool]] = {stage.name: {} for stage in topology.stages}
        millis = int(time.time() * 1000)
        start = self._scan.since({place: millis if place[0] == self._receipts else 0 for place in self._scan.next})
        self._scan.seek(start)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._scan.__exit__(*exc)

    def look(self) -> dict[Seen, Figures]:
        """What they say now. Raises `SetupError` if the cluster does not answer."""
        places: list[Place] = list(self._scan.next)
        for record in self._scan.to(self._scan.ends(places, decided=False)):
            self._take(record)
        for stage, parked in self._parked.items():
            timers = sum(parked.values())
            self._figures[stage].parked, self._figures[stage].timers = len(parked) - timers, timers
        return {(_CLUSTER, stage): msgspec.structs.replace(figures) for stage, figures in self._figures.items()}

    def _take(self, record: Record) -> None:
        if record.topic != self._receipts:
            parked, at = self._parked[self._stages[record.topic]], (record.partition, record.key)
            _, found = parse(record)
            if found is None:
                parked.pop(at, None)
            else:
                parked[at] = found.record.offset < 0  # a timer's is made from its id
            return
        try:
            receipt = self._decode(record.value)
        except DecodeError:
            return
        figures = self._figures.get(receipt.stage)
        if figures is None:
            return
        figures.consumed += receipt.consumed
        figures.sent += sum(receipt.outputs.values())
        figures.transactions += 1
        figures.dead += receipt.dead
        if receipt.verdicts:
            figures.why = "a dependency is away" if "unavailable" in receipt.verdicts else ""


class Watch:
    """Looks at a topology again and again, wherever it can: see `look`. As a context manager it is closed at the end.

    `straight` goes by the topics and asks no worker: for that there has to be a `cluster`, the settings of one. Raises
    `SetupError` if it does not answer.
    """

    def __init__(self, topology: Topology, workers: Workers, cluster: Settings | None, *, straight: bool) -> None:
        self._stages = [stage.name for stage in topology.stages]
        self._workers = None if straight else workers
        self._window = Window()
        with ExitStack() as opened:
            self._groups = opened.enter_context(Groups(cluster, topology)) if cluster else None
            self._topics = opened.enter_context(Topics(cluster, topology)) if cluster and straight else None
            self._opened = opened.pop_all()
        self._window.add(time.monotonic(), self._told())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def look(self) -> tuple[list[Row], str]:
        """The stages since some seconds ago, and what is to be said of the look itself. Raises `SetupError`."""
        self._window.add(time.monotonic(), self._told())
        notes = []
        behind: Mapping[str, Behind] = self._workers.behind if self._workers else {}
        if self._groups is not None:
            try:
                behind = self._groups.look()
            except SetupError as error:
                notes.append(str(error))
        elif not behind:
            notes.append("no cluster is named: lag and cases are not known")
        if self._workers is not None:
            notes += [f"{url} does not answer: {why}" for url, why in self._workers.silent.items()]
        else:
            notes.append("by receipts and parking tables: no worker was asked")
        return self._window.rows(self._stages, behind), "; ".join(notes)

    def _told(self) -> dict[Seen, Figures]:
        if self._topics is not None:
            return self._topics.look()
        return self._workers.look() if self._workers is not None else {}
