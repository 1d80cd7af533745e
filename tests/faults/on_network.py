"""What befalls the network: between one worker and one broker, one worker and all, one broker and the others.

The one rule: the fault lasts for twice a session, so that whoever is cut off is missed, and ends by itself.
"""

import contextlib
import time
from collections.abc import Callable
from typing import Final

from tests.faults.arena import Arena
from tests.faults.proxy import Fault

_LASTS: Final = 12.0  # seconds; a session is 6
_SLOW: Final = 0.4  # seconds, one way


def between_worker_and_broker(fault: Fault) -> Callable[[Arena], None]:
    """One worker and the broker that coordinates the group of inventory."""

    def strike(arena: Arena) -> None:
        node = arena.cluster.coordinator("orders.inventory")
        pid = arena.workers[0].process.pid
        with node.client.cut(fault, [pid], _SLOW):
            arena.last(_LASTS)
        arena.struck(time.monotonic())

    strike.__doc__ = f"{fault} between one worker and the broker that coordinates inventory's group, for {_LASTS:.0f} s."
    return strike


def worker_cut_off(arena: Arena) -> None:
    """black-hole between one worker and all brokers, for 12 s: a zombie that does not know it."""
    pid = arena.workers[0].process.pid
    with contextlib.ExitStack() as stack:
        for node in arena.cluster.nodes:
            stack.enter_context(node.client.cut("black-hole", [pid]))
        arena.last(_LASTS)
    arena.struck(time.monotonic())


def broker_cut_off(fault: Fault) -> Callable[[Arena], None]:
    """One broker and the two others; workers reach all three."""

    def strike(arena: Arena) -> None:
        node = arena.cluster.controller()
        with arena.cluster.isolated(node, fault, _SLOW):
            arena.last(_LASTS)
        since = time.monotonic()
        arena.struck(since)
        arena.whole()

    strike.__doc__ = f"{fault} between the active controller's node and the other brokers, for {_LASTS:.0f} s."
    return strike
