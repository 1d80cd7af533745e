"""What the demo knows of the flow: it reads every topic itself and believes no worker.

The one rule: a record is counted once it is committed, and a stage has consumed what its group's offsets say.
"""

import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Final, Self

import msgspec

from streams import names, topics
from streams.codec import Codec
from streams.config import Settings
from streams.errors import SetupError
from streams.ops.reader import Reader
from streams.ops.scan import committed
from streams.record import Record, event_info
from streams.registry import FolderRegistry
from streams.session import Place
from streams.stage import Stage
from streams.topology import Topology
from streams.trace import incoming
from topologies.orders.events import (
    NotificationSent,
    OrderSubmitted,
    PaymentCaptured,
    PaymentFailed,
    PaymentRefunded,
    RefundRequested,
    StockReserved,
)

_SUBMITTED: Final = event_info(OrderSubmitted).topic
_CAPTURED: Final = event_info(PaymentCaptured).topic
_ENDED: Final = event_info(NotificationSent).topic
_WAITING: Final = {  # what is asked of payment, and its answers
    event_info(StockReserved).topic: (_CAPTURED, event_info(PaymentFailed).topic),
    event_info(RefundRequested).topic: (event_info(PaymentRefunded).topic,),
}
CONFIRMED: Final = "confirmed"
_SMOOTH: Final = 0.3  # how much the newest look counts in a rate


class Progress(msgspec.Struct, frozen=True):
    """One stage: records consumed, emitted and not yet consumed; `rate` is consumed per second, of late."""

    stage: str
    consumed: int
    emitted: int
    lag: int
    rate: float


class Watch:
    """Follows a flow from its first record on. As a context manager it is closed at the end."""

    def __init__(self, settings: Settings, topology: Topology, orders: int) -> None:
        self.orders = orders
        self.total = 0
        self.endings: dict[bytes, tuple[str, str | None]] = {}  # the last one of each order, and its code
        self.told = 0
        self.repeated = 0
        self.progress = [Progress(stage.name, 0, 0, 0, 0.0) for stage in topology.stages]
        self._topology = topology
        self._admin = topics.connect(settings)
        self._reader = Reader(settings, [event_info(cls).topic for cls in topology.events], from_beginning=True)
        self._decode = Codec([NotificationSent], FolderRegistry(topology.schemas)).decoder(NotificationSent)
        self._offsets: dict[Place, list[int]] = defaultdict(list)
        self._counts: Counter[str] = Counter()
        self._times: dict[str, dict[bytes, int]] = {_SUBMITTED: {}, _CAPTURED: {}, _ENDED: {}}
        self._told: set[tuple[bytes, str]] = set()
        self._traces: dict[bytes, str] = {}  # of each order whose trace is kept
        self._asked = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._reader.__exit__(*exc)

    @property
    def submitted(self) -> int:
        """How many records were submitted, whatever is in them."""
        return self._counts[_SUBMITTED]

    @property
    def caught_up(self) -> bool:
        """Whether every stage has consumed all there is."""
        return self._asked > 0 and not any(one.lag for one in self.progress)

    @property
    def done(self) -> bool:
        """Whether every order has ended, payment has answered, and every stage has consumed all there is."""
        return len(self.endings) >= self.orders and self.answered and self.caught_up

    @property
    def answered(self) -> bool:
        """Whether every reservation was paid for or not, and every refund that was asked for is made."""
        return all(self._counts[asked] <= sum(self._counts[topic] for topic in said) for asked, said in _WAITING.items())

    def paid(self, key: bytes) -> bool:
        """Whether an order was paid for."""
        return key in self._times[_CAPTURED]

    def trace(self) -> tuple[str, str, str] | None:
        """An order that came far, its trace, and how it ended; None if no trace was kept."""
        found = [key for key in self.endings if key in self._traces]
        key = next((key for key in found if self.endings[key][0] == CONFIRMED), next(iter(found), None))
        return (key.decode("utf-8", "replace"), self._traces[key], self.endings[key][0]) if key is not None else None

    def look(self, seconds: float) -> None:
        """Take in what comes within so many seconds."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            for record in self._reader.read(2000, left):
                self._count(record)
        self._ask(time.monotonic())

    def latencies(self) -> list[int]:
        """Milliseconds from submission to capture of each order that is confirmed, ascending."""
        submitted, captured = self._times[_SUBMITTED], self._times[_CAPTURED]
        confirmed = (key for key, (ending, _) in self.endings.items() if ending == CONFIRMED)
        return sorted(captured[key] - submitted[key] for key in confirmed if key in submitted and key in captured)

    def seconds(self) -> float:
        """From the first order's submission to the last one's notification."""
        return max(1, max(self._times[_ENDED].values()) - min(self._times[_SUBMITTED].values())) / 1000

    def _count(self, record: Record) -> None:
        self.total += 1
        self._counts[record.topic] += 1
        self._offsets[record.topic, record.partition].append(record.offset)
        key = record.key or b""
        if record.topic in self._times:
            self._times[record.topic][key] = record.timestamp
        if record.topic == _SUBMITTED and (place := incoming(record.headers)) is not None and place.sampled:
            self._traces.setdefault(key, place.trace_id)
        if record.topic == _ENDED:
            sent = self._decode(record.value or b"")
            word = (sent.closing or sent.ending).value
            self.told += 1
            self.repeated += (key, word) in self._told
            self._told.add((key, word))
            self.endings[key] = (word, sent.code)

    def _ask(self, now: float) -> None:
        groups = {stage.name: names.group(self._topology.name, stage.name) for stage in self._topology.stages}
        try:
            offsets = committed(self._admin, groups.values())
        except SetupError:  # a coordinator is moving: the next look comes in a moment
            return
        self.progress = [
            self._stage(stage, offsets[groups[stage.name]], old, now - self._asked)
            for stage, old in zip(self._topology.stages, self.progress, strict=True)
        ]
        self._asked = now

    def _stage(self, stage: Stage, offsets: Mapping[Place, int], old: Progress, elapsed: float) -> Progress:
        inputs = {event_info(cls).topic for cls in stage.consumes}
        consumed = sum(bisect_left(read, offsets.get(place, 0)) for place, read in self._offsets.items() if place[0] in inputs)
        emitted = sum(self._counts[event_info(cls).topic] for cls in stage.emits)
        lag = sum(self._counts[topic] for topic in inputs) - consumed
        rate = old.rate + _SMOOTH * ((consumed - old.consumed) / elapsed - old.rate)
        return Progress(stage.name, consumed, emitted, lag, rate)
