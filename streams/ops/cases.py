"""Cases for operators: all of a topology's cases as they are now, which of them are meant, and their dead letters.

The one rule: what is here only looks. Who decides is in `redrive.py`.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self

import msgspec
from confluent_kafka.admin import AdminClient

from streams import names, topics
from streams.codec import Codec, decode_any
from streams.config import Settings
from streams.dead import CASE, LAST_FAILED, Case, State, original, unbury
from streams.errors import DecodeError, SetupError
from streams.ops.scan import CLOCKS, Scan
from streams.ops.show import text
from streams.record import Record
from streams.registry import FolderRegistry, Registry
from streams.session import Place
from streams.topology import Topology

_AGE: Final = re.compile(r"(\d+)([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Filters(msgspec.Struct, frozen=True):
    """Which cases are meant: those that are like all that is set. `ids` may be shortened as long as one case is meant."""

    ids: tuple[str, ...] = ()
    stage: str | None = None
    fingerprint: str | None = None
    key: str | None = None
    since: datetime | None = None
    states: frozenset[State] = frozenset({State.OPEN})

    def choose(self, cases: Mapping[str, Case]) -> list[Case]:
        """The cases that are meant, the longest dead first. Raises `SetupError` for an id that is nobody's or several's.

        With `ids`, these are chosen whatever their state.
        """
        found = (
            [cases[one] for one in dict.fromkeys(full_id(cases, given) for given in self.ids)] if self.ids else cases.values()
        )
        chosen = [case for case in found if self._like(case)]
        return sorted(chosen, key=lambda case: (case.last_failed_at, case.topic, case.partition, case.offset))

    def _like(self, case: Case) -> bool:
        return (
            (bool(self.ids) or case.state in self.states)
            and self.stage in (None, case.stage)
            and self.fingerprint in (None, case.fingerprint)
            and (self.key is None or self.key.encode() == case.key)
            and (self.since is None or self.since <= case.last_failed_at)
        )


def full_id(cases: Mapping[str, Case], given: str) -> str:
    """The one case whose id begins so. Raises `SetupError`."""
    if given in cases:
        return given
    found = [one for one in cases if given and one.startswith(given.lower())]
    if len(found) != 1:
        what = f"{len(found)} cases begin with {given!r}" if found else f"no case {given!r}"
        raise SetupError(what, fix="take an id from `towpath cases list`")
    return found[0]


def moment(given: str, now: datetime) -> datetime:
    """A time as a user writes it: ISO 8601 (UTC unless it says otherwise), or an age such as 90s, 30m, 2h or 7d."""
    if age := _AGE.fullmatch(given.strip()):
        try:
            return now - timedelta(**{_UNITS[age[2]]: int(age[1])})
        except OverflowError:
            return datetime.min.replace(tzinfo=UTC)
    try:
        time = datetime.fromisoformat(given.strip())
    except ValueError:
        raise SetupError(f"{given!r} is no time", fix="write 2024-05-31T08:00, or an age such as 30m, 2h or 7d") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


class Group(msgspec.Struct):
    """Open cases of one stage that died of the same thing."""

    stage: str
    fingerprint: str
    cases: int
    first_seen: datetime
    last_seen: datetime
    message: str


def groups(cases: Iterable[Case]) -> list[Group]:
    """Cases by stage and fingerprint, the largest group first, each with the message of its newest."""
    found: dict[tuple[str, str], Group] = {}
    for case in cases:
        group = found.get((case.stage, case.fingerprint))
        if group is None:
            new = Group(case.stage, case.fingerprint, 1, case.first_failed_at, case.last_failed_at, case.message)
            found[case.stage, case.fingerprint] = new
            continue
        group.cases += 1
        group.first_seen = min(group.first_seen, case.first_failed_at)
        if case.last_failed_at >= group.last_seen:
            group.last_seen, group.message = case.last_failed_at, case.message
    return sorted(found.values(), key=lambda group: (-group.cases, group.stage, group.fingerprint))


class Book:
    """All cases of a topology, as they were when it was read last. As a context manager it is closed at the end.

    Raises `SetupError` for a cluster that does not answer and for topics that do not exist.
    """

    def __init__(self, settings: Settings, topology: Topology) -> None:
        self.settings = settings
        self.topology = topology
        self.registry: Registry = FolderRegistry(topology.schemas)
        self.codec = Codec([*topology.events, Case], self.registry)
        self.cases: dict[str, Case] = {}
        self.admin: AdminClient = topics.connect(settings)
        self._decode = self.codec.decoder(Case)
        self._scan = Scan(settings, self.admin, [names.cases(topology.name)])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._scan.__exit__()

    def read(self, *, decided: bool = False) -> None:
        """Read on to the end; with `decided`, wait for transactions that are open at this moment."""
        for record in self._scan.to_end(decided=decided):
            self._take(record)

    def watch(self, timeout: float) -> None:
        """Take what comes within `timeout` seconds."""
        for record in self._scan.poll(timeout):
            self._take(record)

    def _take(self, record: Record) -> None:
        try:
            case = self._decode(record.value)
        except DecodeError as error:
            raise SetupError(str(error), where=record.place, fix="that record is no case; who wrote it?") from None
        self.cases[case.case_id] = case

    def letters(self, cases: Sequence[Case]) -> Iterator[tuple[Case, Record]]:
        """Each case with the record that it is about, as it died, in the order of the deaths in each partition.

        A case whose letter is gone is left out. Letters are read as they are asked for, and are never all in memory.
        """
        wanted = {case.case_id: case for case in cases}
        for start in (self._since, self._from_the_beginning):
            if wanted:
                yield from self._find(wanted, start(wanted.values()))

    def _find(self, wanted: dict[str, Case], start: Callable[[Scan], dict[Place, int]]) -> Iterator[tuple[Case, Record]]:
        """Takes from `wanted` what it finds."""
        dlqs = {names.dlq(self.topology.name, case.stage) for case in wanted.values()}
        with Scan(self.settings, self.admin, dlqs) as scan:
            scan.seek(start(scan))
            for letter in scan.to_end(decided=True):  # a dead owner's open transaction may be before a letter
                _, ours = unbury(letter)
                case = wanted.get(ours.get(CASE, ""))
                if case is None or ours.get(LAST_FAILED) != case.last_failed_at.isoformat(timespec="milliseconds"):
                    continue
                del wanted[case.case_id]
                if (record := original(letter)) is not None:
                    yield case, record
                if not wanted:
                    return

    def _since(self, cases: Iterable[Case]) -> Callable[[Scan], dict[Place, int]]:
        """From shortly before the first of these deaths, in the partitions where they were."""
        first: dict[Place, int] = {}
        for case in cases:
            place = (names.dlq(self.topology.name, case.stage), case.partition)
            first[place] = min(first.get(place, 2**62), int(case.last_failed_at.timestamp() * 1000) - CLOCKS)
        return lambda scan: scan.since(first)

    def _from_the_beginning(self, cases: Iterable[Case]) -> Callable[[Scan], dict[Place, int]]:
        """For letters whose times are not what they were: a topic that was copied, clocks that were wrong."""
        places = {(names.dlq(self.topology.name, case.stage), case.partition): 0 for case in cases}
        return lambda _: places


def as_dict(case: Case) -> dict[str, Any]:
    """A case for JSON: times in ISO 8601, bytes as text where they are text."""
    shown: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(case, key=None, edited_value=None))
    shown["key"] = text(case.key)
    del shown["edited_value"]
    shown["edited"] = case.edited_value is not None
    return shown


def as_event(value: bytes | None, registry: Registry) -> dict[str, Any]:
    """A value for JSON: `event` and `value`, or the bytes as `value` with the reason as `undecodable`."""
    try:
        release, decoded = decode_any(value, registry)
    except DecodeError as error:
        return {"undecodable": str(error), "value": text(value)}
    return {"event": release.schema.record, "value": decoded}


def trace_id(record: Record) -> str | None:
    """The trace that a record belongs to: the second part of its W3C `traceparent`."""
    for name, value in record.headers:
        if name == "traceparent":
            parts = (value or b"").decode("ascii", "replace").split("-")
            return parts[1] if len(parts) >= 4 and re.fullmatch(r"[0-9a-f]{32}", parts[1]) else None
    return None
