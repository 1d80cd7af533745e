"""How a stage stands: what a worker's pages and metrics say of it.

The one rule: it only looks, and answers from the event loop whatever keeps the stage's thread busy. Who is not alive cannot go
on by itself; who waits can.
"""

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from streams.engine import Engine
from streams.kafka.session import KafkaSession
from streams.stage import Port, Stage, Telling
from streams.store import Inbox
from streams.tally import Waiting, waiting
from streams.telemetry import Sample, of_clients, of_stage, of_store

_SPARE: Final = 10.0  # seconds without a partition, after which a member is one to spare
_COUNTED: Final = 10.0  # seconds for which parked records are not counted again: there may be many
_DATABASE: Final = "database"


class Standing:
    """One stage's. Its host says what it has opened and what has gone wrong; until then there is not much to say.

    `stuck` and `failure` are why it cannot go on. `member_since` is when it was first polled, monotonic.
    """

    def __init__(self, topology: str, stage: Stage, instance: str) -> None:
        self.stuck = ""
        self.failure = ""
        self.member_since = 0.0
        self.engine: Engine | None = None
        self.session: KafkaSession | None = None
        self.inbox: Inbox | None = None
        self.opened: dict[Any, Any] = {}
        self._topology, self._stage, self._instance = topology, stage, instance
        self._waiting: tuple[float, Waiting] | None = None

    @property
    def name(self) -> str:
        """The stage's name."""
        return self._stage.name

    @property
    def started(self) -> bool:
        """Whether it is up: its ports, schemas and store are open, and it has asked for partitions."""
        return bool(self.member_since)

    def unready(self) -> str:
        """Why it is not ready, "" if it is: it owns partitions whose lanes are restored, or is a spare, and its store answers.

        Who waits for anything but its own store is ready: what it owns is in good hands.
        """
        if self.stuck or self.failure:
            return self.stuck or self.failure
        if self.engine is None or not self.member_since:
            return "it is starting"
        if waits := self._assigned():
            return waits
        hold = self.engine.gate.hold
        if hold is not None and hold.dependency == _DATABASE and self._stage.store is not None:
            return f"its store does not answer: {hold.reason}"
        if not self.engine.gate.partitions and time.monotonic() - self.member_since <= _SPARE:
            return "it has no partition yet"
        return ""

    def health(self) -> dict[str, Any]:
        """The stage on one page: what it owns, what waits, and by `reason` why it does not go on, or what it waits for."""
        engine, broken = self.engine, self.stuck or self.failure
        page: dict[str, Any] = {"stage": self.name, "instance": self._instance, "healthy": not broken}
        if engine is None:
            return page | {"reason": broken or "it is starting"}
        hold = engine.gate.hold
        held = f"it waits for {hold.dependency}" if hold else ""
        if hold and hold.reason != hold.dependency:
            held += f": {hold.reason}"
        return (
            page
            | {"reason": broken or self._assigned() or held}
            | engine.state()
            | {"restoring": self._assigned(), "dependencies": states(self.opened)}
        )

    def samples(self) -> Iterator[Sample]:
        """Its metrics of this moment."""
        engine = self.engine
        if engine is None:
            yield from of_stage(self._topology, self.health(), None, None, 0.0)
            return
        now = time.monotonic()
        if self._waiting is None or now - self._waiting[0] > _COUNTED:
            self._waiting = now, waiting(engine.lanes)
        yield from of_stage(self._topology, self.health(), engine.tally, self._waiting[1], time.time())
        if self.inbox is not None:
            yield from of_store((self._topology, self.name), self.inbox.took, self.inbox.hits)
        if self.session is not None:
            yield from of_clients((self._topology, self.name), self.session.statistics)

    def _assigned(self) -> str:
        return self.session.waits() if self.session is not None else ""


def states(opened: Mapping[Port[Any], Any]) -> dict[str, str]:
    """How the dependencies are whose open ports say so, by the port's name; see `Telling`."""
    return {port.name: found.state() for port, found in opened.items() if isinstance(found, Telling)}
