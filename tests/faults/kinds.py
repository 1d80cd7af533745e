"""The faults by name, in the order in which `make faults` lets them happen.

The one rule: a fault's docstring is what the page says of it.
"""

from collections.abc import Callable
from typing import Final

from tests.faults import on_brokers, on_network, on_workers
from tests.faults.arena import Arena
from tests.faults.mixed import mixed
from tests.faults.proxy import Fault

_NETWORK: Final[tuple[Fault, ...]] = ("refuse", "black-hole", "delay", "reset", "half-open", "one-way")

FAULTS: Final[dict[str, Callable[[Arena], None]]] = {
    "worker-sigkill": on_workers.killed,
    "worker-sigkill-again": on_workers.killed_again,
    "worker-sigterm": on_workers.terminated,
    "worker-sigstop": on_workers.frozen,
    "worker-clock": on_workers.skewed,
    "worker-files": on_workers.no_files,
    "worker-memory": on_workers.out_of_memory,
    "broker-kill": on_brokers.killed,
    "controller-kill": on_brokers.controller_killed,
    "rolling-restart": on_brokers.restarted,
    "leaders-moved": on_brokers.leaders_moved,
    "coordinators-moved": on_brokers.coordinators_moved,
    "disk-full": on_brokers.disk_full,
    **{f"worker-broker-{fault}": on_network.between_worker_and_broker(fault) for fault in _NETWORK},
    "worker-cut-off": on_network.worker_cut_off,
    **{f"brokers-{fault}": on_network.broker_cut_off(fault) for fault in ("black-hole", "one-way", "refuse", "delay")},
    "mixed": mixed,
    "partitions-added": on_brokers.partitions_added,  # the last: topics do not lose partitions again
}
TARGETS: Final = {"worker-sigkill": 10.0, "broker-kill": 15.0, "controller-kill": 15.0}
"""Seconds within which the flow has to be at work again."""
