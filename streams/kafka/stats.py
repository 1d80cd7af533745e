"""What librdkafka says of a session's clients: round trips, queues, errors, rebalances.

The one rule: statistics are looked at when they come, and only the few numbers that are shown are kept.

Source: librdkafka's STATISTICS.md.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final, Literal

import msgspec

_WAITS: Final = frozenset({"wait-join", "wait-sync"})  # the classic protocol's: an answer comes when all others have

Role = Literal["member", "follower", "producer"]
_EVERY: Final = 5_000  # milliseconds
_SILENT: Final = 20.0  # seconds; a broker may ask for a heartbeat every 15 s at most (group.consumer.max.heartbeat.interval.ms)


class Client(msgspec.Struct, frozen=True):
    """One client's last numbers. `rtt` is in seconds, of the slowest broker; `errors` have been so many since the start."""

    rtt: float
    queue: int
    errors: int
    up: int


class _Window(msgspec.Struct):
    p99: int = 0


class _Broker(msgspec.Struct):
    source: str = ""
    state: str = ""
    rtt: _Window = msgspec.field(default_factory=_Window)
    txerrs: int = 0
    rxerrs: int = 0
    req_timeouts: int = 0
    rxidle: int = -1


class _Partition(msgspec.Struct):
    fetchq_cnt: int = 0


class _Topic(msgspec.Struct):
    partitions: dict[str, _Partition] = {}


class _Group(msgspec.Struct):
    rebalance_cnt: int = 0
    state: str = ""
    join_state: str = ""


class _Stats(msgspec.Struct):
    """The part of the statistics that is looked at; the decoder skips the rest."""

    msg_cnt: int = 0
    brokers: dict[str, _Broker] = {}
    topics: dict[str, _Topic] = {}
    cgrp: _Group | None = None


_decode: Final = msgspec.json.Decoder(_Stats).decode


class Statistics:
    """Of one session. `clients` by role, once there are any; `rebalances` are the member's.

    `astray` says why the member seems to have no place in its group, "" if it has one.
    """

    def __init__(self) -> None:
        self.clients: dict[Role, Client] = {}
        self.rebalances = 0
        self.astray = ""

    def properties(self, role: Role) -> Mapping[str, Any]:
        """What a client has to be told so that its statistics come here; they come as it is polled."""
        return {"stats_cb": partial(self.take, role), "statistics.interval.ms": _EVERY}

    def take(self, role: Role, text: str) -> None:
        """One look of librdkafka at a client."""
        try:
            stats = _decode(text)
        except msgspec.DecodeError:  # of a version that writes them otherwise: nothing that a record should suffer for
            return
        brokers = list(stats.brokers.values())  # each is a connection of its own: one is to the group's coordinator
        errors = sum(broker.txerrs + broker.rxerrs + broker.req_timeouts for broker in brokers)
        before = self.clients.get(role)
        fetched = sum(part.fetchq_cnt for topic in stats.topics.values() for part in topic.partitions.values())
        self.clients[role] = Client(
            rtt=max((broker.rtt.p99 for broker in brokers), default=0) / 1e6,
            queue=stats.msg_cnt if role == "producer" else fetched,
            errors=max(errors, before.errors if before else 0),  # a counter, though brokers may be forgotten
            up=sum(broker.source == "learned" and broker.state == "UP" for broker in brokers),
        )
        if role == "member" and stats.cgrp is not None:
            self.rebalances = stats.cgrp.rebalance_cnt
            self.astray = _astray(stats.cgrp, stats.brokers.get("GroupCoordinator"))


def _astray(group: _Group, coordinator: _Broker | None) -> str:
    if group.state != "up":
        return f"its coordinator is not there: {group.state}"
    if "unassign" in group.join_state:
        return f"it gives up partitions: {group.join_state}"
    if group.join_state in _WAITS or coordinator is None:
        return ""
    idle = coordinator.rxidle / 1e6
    return f"the coordinator has said nothing for {idle:.0f} s" if idle > _SILENT else ""
