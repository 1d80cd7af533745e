"""A Kafka of three nodes on this machine, from the same jars as `streams.local`, with a proxy in front of what may be cut.

The one rule: whatever the product sees of the cluster goes through a proxy; the tests' own clients never do.

Each node is broker and controller. Listeners: CLIENT (the product, through a proxy), DIRECT (the tests), INTERNAL (brokers
among themselves, through a proxy) and CONTROLLER (the quorum, through a proxy).
"""

import contextlib
import json
import subprocess
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Self

import pytest
from confluent_kafka import ElectionType, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from streams import jars
from streams.background import free_port
from streams.local import FAILOVER, LocalKafka
from tests.faults.proxy import Fault, Loop, Proxy
from tests.support.workers import wait_for

NODES: Final = 3
_DISK: Final = 768 << 20  # bytes
_CLUSTER: Final = "dG93cGF0aC1mYXVsdHMtMQ"  # 16 bytes in base64
_SOONER: Final = {
    "group.consumer.session.timeout.ms": "5000",
    "group.consumer.heartbeat.interval.ms": "500",  # each step of a rebalance waits for one: who gives, then who gets
}
_REPLICATED: Final = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
    "unclean.leader.election.enable": "false",
    "auto.leader.rebalance.enable": "false",  # leaders move when a fault moves them
    "replica.lag.time.max.ms": "5000",
    "replica.socket.timeout.ms": "5000",
    "controller.quorum.request.timeout.ms": "1000",
    "controlled.shutdown.enable": "true",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "num.replica.fetchers": "1",
    "log.cleaner.threads": "1",
    "log.index.size.max.bytes": "1048576",
}


class Node(LocalKafka):
    """One of the nodes. `port` is its DIRECT listener."""

    def __init__(self, directory: Path, number: int, loop: Loop, settings: Mapping[str, str]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        super().__init__(directory)
        self.number = number
        self._given = settings
        self.port, self.controller_port = free_port(0), free_port(0)
        self._client, self._internal = free_port(0), free_port(0)
        self.client = Proxy(loop, self._client, free_port(0))
        self.internal = Proxy(loop, self._internal, free_port(0))
        self.controller = Proxy(loop, self.controller_port, free_port(0))
        self.voters = ""

    @property
    def quorum(self) -> Path:
        """What it knows of the quorum."""
        return self.directory / "data" / "__cluster_metadata-0" / "quorum-state"

    def begin(self) -> None:
        """Start its process, and wait for nothing."""
        if not self.running:
            self._spawn(jars.class_path(print))

    def close(self) -> None:
        """End its process, and close its proxies."""
        self.kill()
        for proxy in (self.client, self.internal, self.controller):
            proxy.close()

    def _settings(self) -> dict[str, str]:
        ours = {"CLIENT": self._client, "DIRECT": self.port, "INTERNAL": self._internal}
        told = {"CLIENT": self.client.port, "DIRECT": self.port, "INTERNAL": self.internal.port}
        settings = super()._settings()
        del settings["controller.quorum.bootstrap.servers"]
        return {
            **settings,
            **FAILOVER,
            **_SOONER,
            **_REPLICATED,
            "node.id": str(self.number),
            "listeners": _listeners({**ours, "CONTROLLER": self.controller_port}),
            "advertised.listeners": _listeners({**told, "CONTROLLER": self.controller.port}),
            "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in (*ours, "CONTROLLER")),
            "inter.broker.listener.name": "INTERNAL",
            "controller.quorum.voters": self.voters,
            **self._given,
        }

    def _format(self, command: list[str]) -> None:
        arguments = ["format", f"--cluster-id={_CLUSTER}", "-c", str(self._properties), "--ignore-formatted"]
        with self.log.open("ab") as out:
            subprocess.run([*command, "kafka.tools.StorageTool", *arguments], stdout=out, stderr=out, check=True)


class Disk:
    """A small file system in memory for one node's data, where it may be mounted; `why` says why it may not."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "towpath-faults", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.why = done.stderr.strip() if done.returncode else ""
        self._folder = folder

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """Not a byte is left while this is entered."""
        if self.why:
            pytest.skip(f"no file system can be mounted here: {self.why}")
        ballast = self._folder / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(1 << 20)):
                pass
        try:
            yield
        finally:
            ballast.unlink()

    def close(self) -> None:
        """Unmount it."""
        if not self.why:
            subprocess.run(["umount", "--lazy", str(self._folder)], check=True)


class Cluster:
    """The three of them. As a context manager they are gone at the end."""

    def __init__(self, directory: Path, settings: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self._loop = Loop()
        self.nodes = [Node(directory / f"node{number}", number, self._loop, settings or {}) for number in range(1, NODES + 1)]
        self.disk = Disk(self.nodes[-1].directory / "data")
        for node in self.nodes:
            node.voters = ",".join(f"{each.number}@127.0.0.1:{each.controller.port}" for each in self.nodes)

    def __enter__(self) -> Self:
        try:
            with ThreadPoolExecutor(NODES) as threads:
                list(threads.map(Node.begin, self.nodes))
            self.wait_untilwhole()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.close()
        self.disk.close()
        self._loop.__exit__()

    @property
    def bootstrap(self) -> str:
        """What the product is told: the proxies."""
        return ",".join(f"127.0.0.1:{node.client.port}" for node in self.nodes)

    @property
    def direct(self) -> str:
        """What the tests' own clients are told."""
        return ",".join(node.bootstrap for node in self.nodes)

    def admin(self) -> AdminClient:
        """A client that asks."""
        return AdminClient({"bootstrap.servers": self.direct, "log_level": 0, "reconnect.backoff.max.ms": 500})

    def node(self, number: int) -> Node:
        """By its id."""
        return self.nodes[number - 1]

    def wait_untilwhole(self, seconds: float = 120) -> None:
        """Wait until every node serves and every partition has all its replicas in sync."""
        admin = self.admin()
        wait_for(lambda: whole(admin), seconds, "the cluster is not whole", self.logs)

    def wait_until_led(self, *, without: Node, seconds: float = 120) -> None:
        """Wait until every partition has a leader that lives: what a death costs before any client can do something."""
        admin = self.admin()
        wait_for(lambda: led(admin, without.number), seconds, "not every partition is led", self.logs)

    def controller(self) -> Node:
        """The active controller's node, by what the quorum's members have written down (brokers tell clients any node's)."""
        states = [json.loads(path.read_text()) for node in self.nodes if (path := node.quorum).exists()]
        newest = max((int(state["leaderEpoch"]), int(state["leaderId"])) for state in states)
        return self.node(newest[1])

    def coordinator(self, group: str) -> Node:
        """Where a consumer group has its coordinator."""
        admin = self.admin()
        found = admin.describe_consumer_groups([group], request_timeout=20)[group].result()
        return self.node(int(found.coordinator.id))

    def leaders(self, topics: Collection[str]) -> dict[tuple[str, int], int]:
        """Who leads what."""
        known = self.admin().list_topics(timeout=20).topics
        return {(topic, p.id): int(p.leader) for topic in topics for p in known[topic].partitions.values()}

    def elect(self, topics: Collection[str]) -> int:
        """Give leadership back to whom it was given at first. How many partitions changed hands."""
        before = self.leaders(topics)
        admin = self.admin()
        places = [TopicPartition(topic, partition) for topic, partition in before]
        admin.elect_leaders(ElectionType.PREFERRED, places).result(90)
        after = self.leaders(topics)
        return sum(before[place] != after[place] for place in before)

    @contextlib.contextmanager
    def isolated(self, node: Node, fault: Fault, delay: float = 0.0) -> Iterator[None]:
        """Cut a node off from the other nodes, both ways; clients still reach it."""
        others = [each for each in self.nodes if each is not node]
        pids = [each.pid for each in others]
        with contextlib.ExitStack() as stack:
            for proxy in (node.internal, node.controller):
                stack.enter_context(proxy.cut(fault, pids, delay))
            for other in others:
                for proxy in (other.internal, other.controller):
                    stack.enter_context(proxy.cut(fault, [node.pid], delay))
            yield

    def logs(self) -> str:
        """The end of each node's log."""
        return "\n".join(f"--- node {node.number}, alive: {node.running}\n{_end(node.log)}" for node in self.nodes)


def _listeners(ports: Mapping[str, int]) -> str:
    return ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())


def whole(admin: Any) -> bool:
    """Whether all nodes serve and every replica is in sync."""
    try:
        known = admin.list_topics(timeout=2)
    except KafkaException:
        return False
    parts = [part for topic in known.topics.values() for part in topic.partitions.values()]
    return len(known.brokers) == NODES and all(part.leader >= 0 and len(part.isrs) == len(part.replicas) for part in parts)


def led(admin: Any, dead: int) -> bool:
    """Whether every partition has a leader other than the dead one."""
    try:
        known = admin.list_topics(timeout=2)
    except KafkaException:
        return False
    return all(part.leader not in (-1, dead) for topic in known.topics.values() for part in topic.partitions.values())


def _end(path: Path) -> str:
    return path.read_text("utf-8", "replace")[-1500:] if path.exists() else ""
