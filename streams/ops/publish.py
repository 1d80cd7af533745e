"""Publishing what comes in from outside, once by the name that the outside gives it.

The one rule: the topic itself is the memory. What is in it has been published; there is no second place that could say
otherwise, and a process that is killed at any moment leaves nothing half done.

One transactional producer writes, and the same transactional id fences every older one, with whatever it has still under
way; only then the topics are read for the names that they hold. A second publisher therefore ends the first.
"""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, Final, Self

import msgspec

from streams import names, topics
from streams.codec import Codec
from streams.config import Settings
from streams.errors import Aborted
from streams.ops.scan import Scan
from streams.ops.takeover import take_over
from streams.record import ID, EventInfo, Output, event_info
from streams.registry import FolderRegistry
from streams.topology import Topology
from streams.travel import event_id

WINDOW: Final = 86_400.0
"""Seconds for which a name is remembered: longer than anybody repeats himself, shorter than a topic is kept."""


class Notice(msgspec.Struct, frozen=True):
    """An event from outside. `name` is what the outside calls it: two of one name are one."""

    name: str
    event: Any


class Publisher:
    """The one writer of some of a topology's sources. Calls block; one thread at a time may call.

    As a context manager it is closed at the end.
    """

    def __init__(
        self, settings: Settings, topology: Topology, events: Sequence[type], *, now: float, window: float = WINDOW
    ) -> None:
        """Takes over from whoever published before. Names are remembered for `window` seconds; `now` is in epoch seconds.

        Raises `SetupError` for a cluster that does not answer, does not let us write, or lacks a topic.
        """
        codec = Codec(events, FolderRegistry(topology.schemas))
        self._settings = settings
        self._topology = topology.name
        self._events: dict[type, tuple[EventInfo, Callable[[Any], bytes]]] = {
            cls: (event_info(cls), codec.encoder(cls)) for cls in events
        }
        self._window = window
        self._ids: dict[str, float] = {}  # when it was published, the oldest first
        topics.connect(settings)
        self._writer = take_over(topics.properties(settings), names.publisher(self._topology), "publisher")
        self._remember(now)

    def _remember(self, now: float) -> None:
        found: dict[str, float] = {}
        with Scan(self._settings, topics.connect(self._settings), [info.topic for info, _ in self._events.values()]) as scan:
            scan.seek(scan.since(dict.fromkeys(scan.next, int((now - self._window) * 1000))))
            for record in scan.to_end(decided=True):
                found[event_id(record)] = record.timestamp / 1000
        self._ids = dict(sorted(found.items(), key=lambda one: one[1]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def stop(self) -> None:
        """Wait no longer for a broker that is away; from any thread."""
        self._writer.stop()

    def publish(self, notices: Sequence[Notice], now: float) -> list[bool]:
        """Publish those that are new, in one transaction; says of each whether it was. `now` is in epoch seconds.

        Raises `EncodeError` for an event that its schema cannot hold, `Aborted` when nothing of it happened, and `Fenced`
        when another publisher has taken over, or what happened is not known: begin again with a new one.
        """
        self._forget(now)
        new: dict[str, Output] = {}
        fresh = []
        for notice in notices:
            known = notice_id(self._topology, notice.name)
            fresh.append(known not in self._ids and known not in new)
            if fresh[-1]:
                new[known] = self._output(known, notice.event)
        if new:
            try:
                self._writer.write(list(new.values()))
            except Aborted:
                self._writer.renew()
                self._remember(now)
                raise
            self._ids.update(dict.fromkeys(new, now))
        return fresh

    def _forget(self, now: float) -> None:
        while self._ids and self._ids[oldest := next(iter(self._ids))] < now - self._window:
            del self._ids[oldest]

    def _output(self, known: str, event: Any) -> Output:
        info, encode = self._events[type(event)]
        return Output(info.topic, str(getattr(event, info.key)).encode(), encode(event), ((ID, known.encode()),))


def notice_id(topology: str, name: str) -> str:
    """The event id of what the outside calls `name`: 32 hex digits, always the same."""
    return blake2b(f"{topology}/notice/{name}".encode(), digest_size=16).hexdigest()
