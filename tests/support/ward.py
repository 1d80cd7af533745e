"""The clinic on a broker: its worker, what is sent, what has come out, and the operators' command.

The one rule: the command runs as a user runs it, in a process of its own; what came out is read by a client that is not ours.
"""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from tests.support.clinic import write_schemas
from tests.support.contracts import Contracts
from tests.support.reader import Reader
from tests.support.workers import ROOT, Crew, Worker, wait_for

MODULE = "tests.support.clinic"
Item = tuple[str, int]


class Ward(Crew):
    """One copy of the clinic."""

    def __init__(self, directory: Path, bootstrap: str) -> None:
        self.name = f"clinic-{uuid.uuid4().hex[:8]}"
        self.home = directory / self.name
        self.home.mkdir()
        write_schemas(self.home / "schemas", self.name)
        super().__init__(
            self.home,
            {
                "TOWPATH_BOOTSTRAP": bootstrap,
                "TOWPATH_CLINIC": self.name,
                "TOWPATH_CLINIC_HOME": str(self.home),
                "TOWPATH_DIR": str(self.home),
            },
        )
        self.contracts = Contracts(self.home / "schemas")
        self.producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "log_level": 0})
        self._bootstrap = bootstrap
        self._broken = self.home / "broken"
        assert self.towpath("topics", "apply", MODULE).returncode == 0

    # -- the flow -------------------------------------------------------------------------------------------------------

    def worker(self, *stages: str) -> Worker:
        """Start the worker of these stages and wait until it is at work."""
        worker = self.start(MODULE, *stages, instance="-".join(("ward", *stages)))
        wait_for(lambda: worker.ready, 60, "the worker is not ready", self.logs)
        return worker

    def break_down(self) -> None:
        """From now on whatever comes to the keeper dies."""
        self._broken.touch()

    def repair(self) -> None:
        """From now on the keeper works."""
        self._broken.unlink()

    def send(self, *items: Item) -> None:
        for key, size in items:
            self.raw("sent", key.encode(), self.contracts.encode("Sent", {"key": key, "size": size}))

    def raw(self, topic: str, key: bytes | None, value: bytes | None, headers: Sequence[Any] = ()) -> None:
        """Produce anything."""
        self.producer.produce(f"{self.name}.{topic}", value, key, headers=list(headers))
        assert self.producer.flush(30) == 0

    def records(self, topic: str) -> list[Any]:
        """All committed records of a topic, read by aiokafka."""
        with Reader(self._bootstrap, [f"{self.name}.{topic}"]) as reader:
            reader.to_end()
            return reader.records[f"{self.name}.{topic}"]

    def items(self, topic: str) -> list[Item]:
        """What came out there."""
        decoded = [self.contracts.decode(record.value) for record in self.records(topic)]
        return [(value["key"], value["size"]) for value in decoded]

    # -- the operators --------------------------------------------------------------------------------------------------

    def operator(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command."""
        return subprocess.Popen(
            [sys.executable, "-m", "streams", *arguments],
            cwd=ROOT,
            env={k: v for k, v in os.environ.items() if not k.startswith("TOWPATH_")} | self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def towpath(self, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        process = self.operator(*arguments)
        out, err = process.communicate(given, timeout=120)
        assert "Traceback" not in err, err
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def cases(self, verb: str, *arguments: str, code: int = 0, given: str = "") -> list[dict[str, Any]]:
        """`towpath cases VERB MODULE …`: checks the exit code, returns the lines."""
        done = self.towpath("cases", verb, MODULE, *arguments, given=given)
        assert done.returncode == code, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def wait_for_cases(self, count: int, state: str = "open") -> list[dict[str, Any]]:
        """Wait until so many cases are in this state; returns them."""
        found: list[dict[str, Any]] = []

        def so_many() -> bool:
            found[:] = self.cases("list", "--state", state)
            return len(found) >= count

        wait_for(so_many, 60, f"not {count} cases are {state}", self.logs)
        assert len(found) == count
        return found
