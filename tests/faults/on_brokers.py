"""What befalls the brokers: they die, restart, lose or get leadership, have no disk left, or get more partitions.

The one rule: the cluster is whole again before a fault counts as over, unless the fault is that it is not.
"""

import random
import time
from typing import Final

from confluent_kafka.cimpl import NewPartitions

from tests.faults import collect
from tests.faults.arena import Arena
from tests.faults.cluster import Node

_CALM: Final = 8.0  # seconds; a broker that has just come back keeps the machine busy: let each death be one by itself
_OFFSETS, _TRANSACTIONS = "__consumer_offsets", "__transaction_state"


def killed(arena: Arena, times: int = 6) -> None:
    """kill -9 of a broker, each in turn; it comes back when the flow has recovered without it."""
    for turn in range(times):
        arena.last(_CALM)
        kill(arena, arena.cluster.nodes[turn % 3])


def controller_killed(arena: Arena, times: int = 3) -> None:
    """kill -9 of the node that is the active controller (and a broker)."""
    for _ in range(times):
        arena.last(_CALM)
        kill(arena, arena.cluster.controller())


def restarted(arena: Arena) -> None:
    """Every broker is stopped in good order and started again, one after the other."""
    for node in arena.cluster.nodes:
        since = time.monotonic()
        node.stop()
        arena.struck(since)
        _back(arena, node)


def leaders_moved(arena: Arena, times: int = 2) -> None:
    """All partitions of a broker get another leader while it lives, by an election."""
    for turn in range(times):
        node = arena.cluster.nodes[turn]
        node.stop()
        _back(arena, node)
        since = time.monotonic()
        moved = arena.cluster.elect((*collect.TOPICS, "orders.cases"))
        arena.note(f"{moved} leaders moved")
        arena.struck(since)


def coordinators_moved(arena: Arena) -> None:
    """Groups and transactions get another coordinator: the partitions of their topics change hands."""
    node = arena.cluster.coordinator("orders.inventory")
    node.stop()
    _back(arena, node)
    for topic in (_OFFSETS, _TRANSACTIONS):
        since = time.monotonic()
        moved = arena.cluster.elect([topic])
        arena.note(f"{moved} of {topic} moved")
        arena.struck(since)


def disk_full(arena: Arena) -> None:
    """The disk of one broker is full: it ends. Then there is room again, and it comes back."""
    disk = arena.cluster.disk
    node = arena.cluster.nodes[-1]
    with disk.full():
        since = time.monotonic()
        arena.wait(lambda: not node.running, 60, "the broker goes on without a disk", arena.cluster.logs)
        arena.note(f"the broker ended after {time.monotonic() - since:.1f} s")
        arena.struck(since)
    _back(arena, node)


def partitions_added(arena: Arena) -> None:
    """orders.submitted gets two partitions more: the stage that reads it says what to do; when it is done, all goes on."""
    add(arena, ["orders.submitted"], 6)
    ended = [worker for worker in arena.workers if "partitions, but" in worker.log]
    arena.wait(
        lambda: any("partitions, but" in worker.log for worker in arena.workers),
        90,
        "nobody says that the counts differ",
        arena.crew.logs,
    )
    assert not ended
    add(arena, [topic for topic in (*collect.TOPICS, "orders.cases") if topic != "orders.submitted"], 6)
    arena.shop.renew()
    arena.partitions = 6
    arena.reread()
    for worker in arena.workers:
        worker.supervise()
    arena.struck(time.monotonic())


def add(arena: Arena, topics: list[str], count: int) -> None:
    """Give topics more partitions."""
    admin = arena.cluster.admin()
    for future in admin.create_partitions([NewPartitions(topic, count) for topic in topics]).values():
        future.result(30)


def kill(arena: Arena, node: Node) -> None:
    node.kill()
    since = time.monotonic()
    arena.cluster.wait_until_led(without=node)
    arena.note(f"new leaders after {time.monotonic() - since:.1f} s")
    arena.struck(since)
    _back(arena, node)


def _back(arena: Arena, node: Node) -> None:
    node.begin()
    arena.whole()


def any_broker(arena: Arena, chance: random.Random) -> None:
    """One of them is killed and comes back, for the mixed round."""
    kill(arena, chance.choice(arena.cluster.nodes))
