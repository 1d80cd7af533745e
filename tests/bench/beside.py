"""One stage beside its peers: the same orders, the same work on Avro, each as its own process, by turns A B C A B C.

The one rule: each peer is the best that one would fairly write with it (`tests/bench/peers`), and all are watched from outside,
by what their groups have committed; start-up and the first commit do not count. A ratio is the median of the ratios of one
round. The stage does what intake of the order flow does, without its database. `bare copy` does no work at all: it copies.
"""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any, Final

import msgspec

from tests.bench.flow import bench
from tests.bench.ground import SUBMITTED, Ground, encoded, preload, some_orders
from tests.bench.processes import PEERS
from tests.bench.throughput import BATCH, group_speed, stage_speed

OURS: Final = "towpath"
BARE: Final = "bare copy"
TARGET: Final = 0.25


class Peer(msgspec.Struct, frozen=True):
    """`program` is its file in `tests/bench/peers`, `package` what it needs, `share` of the records what it is given."""

    program: str
    package: str
    guarantee: str
    share: float


_PEERS: Final = {
    "librdkafka by hand": Peer("hand", "confluent-kafka", "exactly once", 0.5),
    "aiokafka by hand": Peer("aio", "aiokafka", "exactly once", 0.4),
    "Quix Streams": Peer("quix", "quixstreams", "exactly once", 0.3),
    "FastStream, batches": Peer("fast", "faststream", "at least once", 0.2),
    "Faust's own agent": Peer("agent", "faust-streaming", "at least once", 0.1),
}


def measure(ground: Ground, *, quick: bool) -> dict[str, Any]:
    """By turns."""
    records, rounds = (60_000, 1) if quick else (240_000, 3)
    preload(ground.bootstrap, SUBMITTED, encoded(some_orders(records, "beside-")))
    versions = {name: _version(peer.package) for name, peer in _PEERS.items()}
    ways: dict[str, Callable[[int], float]] = {
        OURS: lambda _: stage_speed(ground, bench),
        BARE: partial(_copy, ground, records),
        **{name: partial(_peer, ground, records, name) for name, found in versions.items() if found},
    }
    missing = {name: "not installed in .peers" for name, found in versions.items() if not found}
    ways[BARE](rounds)  # to warm the broker up
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways):
            try:
                found[name].append(ways[name](number))
            except SystemExit as error:
                if name == OURS:
                    raise
                missing[name] = str(error)[-500:]
                del ways[name], found[name]
    return {
        "what": __doc__,
        "records": records,
        "msgs/s": found,
        "median": {name: median(speeds) for name, speeds in found.items()},
        "ratios": {name: _ratio(found[OURS], speeds) for name, speeds in found.items() if name != OURS},
        "guarantees": {OURS: "exactly once", BARE: "exactly once", **{name: peer.guarantee for name, peer in _PEERS.items()}},
        "versions": {name: found for name, found in versions.items() if found},
        "missing": missing,
        "target": TARGET,
    }


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return median(our / their for our, their in zip(ours, theirs, strict=True))


def _copy(ground: Ground, records: int, number: int) -> float:
    group, target = f"bench.copy.{number}", "bare.copy"
    ground.make_topics([target])
    return group_speed(ground, group, records, lambda these: these.bare(ground.bootstrap, group, SUBMITTED, target, BATCH))


def _peer(ground: Ground, records: int, name: str, number: int) -> float:
    peer = _PEERS[name]
    group, target = f"bench.{peer.program}.{number}", f"peer.{peer.program}"
    ground.make_topics([target])
    ahead = int(records * peer.share)
    return group_speed(ground, group, ahead, lambda these: these.peer(peer.program, ground.bootstrap, group, SUBMITTED, target))


def _version(package: str) -> str:
    """Of what is in the peers' environment; "" for what is not."""
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    try:
        done = subprocess.run([PEERS / "python", "-c", code], capture_output=True, text=True, check=False)
    except OSError:
        done = None
    if done is None or done.returncode:
        sys.stderr.write(f"{package} is missing: run `make .peers/.ready`\n")
        return ""
    return done.stdout.strip()
