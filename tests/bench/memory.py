"""Memory: each stage's process under a steady load of 100 orders per second, for LEAK minutes (default 3).

The one rule: what it grows by is told by the slope of its resident memory over the last two thirds of the time; the first third
is for what is filled once. Minutes say little of an hour: LEAK=60 does. An order has 20 seconds to be paid for, not 15 minutes:
inventory holds a timer for each that long, so that its memory would grow for 15 minutes before it stands still.
"""

import os
import threading
import time
from typing import Any, Final

import msgspec
import psutil

from streams import migrate
from streams.postgres import LocalPostgres
from tests.bench.ground import SUBMITTED, Ground, encoded, some_orders
from tests.bench.latency import send
from tests.bench.processes import Processes
from topologies.orders import orders as flow
from topologies.orders.seed import seed

_RATE: Final = 100
_EVERY: Final = 2.0  # seconds between two looks, at least
_LOOKS: Final = 180
_DEADLINE: Final = 20  # seconds to pay
_MIB: Final = 1 << 20


def measure(ground: Ground, *, quick: bool) -> dict[str, Any]:
    """One load, all stages."""
    minutes = 0.5 if quick else float(os.environ.get("LEAK") or 3)
    stages = [stage.name for stage in flow.stages]
    count = int(minutes * 60 * _RATE)
    with LocalPostgres.start(ground.directory / "postgres") as database:
        settings = ground.settings("memory", database.url)
        migrate.upgrade(database.url, migrate.stores(flow))
        seed(settings, (msgspec.to_builtins(order) for order in some_orders(count, "memory-")), short=0)
        with Processes(settings.directory) as processes:
            for stage in stages:
                processes.worker(settings, "topologies.orders", stage, more={"TOWPATH_PAYMENT_DEADLINE": str(_DEADLINE)})
            processes.wait_until_ready()
            seen = _watch(ground, processes, dict(zip(stages, processes.pids, strict=True)), count)
    at, found = seen.pop("seconds"), {}
    for stage, sizes in seen.items():
        third = len(sizes) // 3
        found[stage] = {
            "MiB at the start": sizes[0],
            "MiB at the end": sizes[-1],
            "MiB at most": max(sizes),
            "MiB/h": 3600 * slope(at[third:], sizes[third:]),
        }
    return {"what": __doc__, "minutes": minutes, "orders/s": _RATE, "workers": found, "seconds": at, "MiB": seen}


def _watch(ground: Ground, processes: Processes, pids: dict[str, int], count: int) -> dict[str, list[float]]:
    """Resident MiB of each worker, and when, while so many orders are sent."""
    watched = {stage: psutil.Process(pid) for stage, pid in pids.items()}
    orders = encoded(some_orders(count, "memory-"))
    sender = threading.Thread(target=send, args=(ground.bootstrap, SUBMITTED, orders, _RATE))
    seen: dict[str, list[float]] = {"seconds": [], **{stage: [] for stage in pids}}
    began = time.monotonic()
    sender.start()
    while sender.is_alive():
        seen["seconds"].append(time.monotonic() - began)
        for stage, process in watched.items():
            seen[stage].append(process.memory_info().rss / _MIB)
        processes.check()
        sender.join(max(_EVERY, count / _RATE / _LOOKS))
    return seen


def slope(at: list[float], sizes: list[float]) -> float:
    """Least squares: how much a size grows by in a second."""
    if len(at) < 2:
        return 0.0
    middle, mean = sum(at) / len(at), sum(sizes) / len(sizes)
    spread = sum((x - middle) ** 2 for x in at)
    return sum((x - middle) * (y - mean) for x, y in zip(at, sizes, strict=True)) / spread
