"""Worker processes of the tests, and what may befall them.

The one rule: whatever was started here is gone at the end, whatever state it is in.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[2]


class Worker:
    """One `towpath run`. `ends` are the exit codes of its lives that are over; `log` has what all of them said."""

    def __init__(
        self, directory: Path, arguments: tuple[str, ...], environment: Mapping[str, str], module: str = "streams"
    ) -> None:
        name = "-".join(arguments[1:]) or "worker"
        self.name = f"{name}-{environment.get('TOWPATH_INSTANCE', random.randrange(10**6))}"
        self.port = free_port()
        self.ends: list[int] = []
        self._log = directory / f"{self.name}.log"
        self._command = [sys.executable, "-m", module, "run", *arguments, "--web-port", str(self.port)]
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("TOWPATH_")}
        self._environment |= {**environment, "PYTHONFAULTHANDLER": "1"}
        self._frozen = False
        self.start()

    def start(self, more: Mapping[str, str] | None = None) -> None:
        """Start it, or start it again as the same instance. `more` is in the environment of this life alone."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environment | dict(more or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8", "replace")

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.ended(10)

    def terminate(self) -> tuple[int, float]:
        """SIGTERM. Returns the exit code and the seconds that it took."""
        began = time.monotonic()
        self.process.terminate()
        return self.ended(30), time.monotonic() - began

    def ended(self, seconds: float) -> int:
        """Wait for the end; returns the exit code."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # where each thread is goes to the log
            self.process.wait(10)
            raise AssertionError(f"{self.name} does not end; its log:\n{self.log[-6000:]}") from None
        self.ends.append(code)
        return code

    def freeze(self) -> None:
        """SIGSTOP."""
        self._frozen = True
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._frozen = False
        self.process.send_signal(signal.SIGCONT)

    def supervise(self) -> None:
        """Start it again if it has ended, as a supervisor does."""
        if self.process.poll() is not None:
            self.ends.append(self.process.returncode)
            self.start()

    def page(self, path: str) -> tuple[int, dict[str, Any]]:
        """A page of its web server: status and content; status 0 if nobody answers."""
        if self._frozen:
            return 0, {}
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=2) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)
        except (OSError, ValueError):
            return 0, {}

    @property
    def ready(self) -> bool:
        return self.page("/ready")[0] == 200

    def owned(self) -> dict[str, set[int]]:
        """The partitions that each of its stages owns."""
        _, page = self.page("/health")
        return {stage["stage"]: set(stage.get("partitions", ())) for stage in page.get("stages", ())}

    def end(self) -> None:
        """Leave nothing behind."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


class Crew:
    """The workers of one flow, ended together. `environment` is what all of them are given; `module` what they run."""

    def __init__(self, directory: Path, environment: Mapping[str, str], module: str = "streams") -> None:
        self.directory = directory
        self.environment = dict(environment)
        self._module = module
        self.workers: list[Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.end()

    def start(self, *arguments: str, instance: str) -> Worker:
        """Start a worker of `arguments` (module and stages)."""
        worker = Worker(self.directory, arguments, self.environment | {"TOWPATH_INSTANCE": instance}, self._module)
        self.workers.append(worker)
        return worker

    def supervise(self) -> None:
        """Start again whoever has ended."""
        for worker in self.workers:
            worker.supervise()

    def wait_until_ready(self, seconds: float = 60) -> None:
        """Wait until each owns its partitions or waits for some."""
        wait_for(lambda: all(worker.ready for worker in self.workers), seconds, "not all workers are ready", self.logs)

    def logs(self) -> str:
        """What each says of itself and the end of its log, for a failure's message."""
        return "\n".join(
            f"--- {worker.name} {worker.ends}\n{worker.page('/health')[1]}\n{worker.log[-1500:]}" for worker in self.workers
        )


def towpath(environment: Mapping[str, str], *arguments: str, code: int = 0) -> str:
    """Run the command to its end, which is to be this exit code. Returns what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "streams", *arguments],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith("TOWPATH_")} | dict(environment),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr + done.stdout[:5000]
    return done.stdout


def wait_for(done: Callable[[], bool], seconds: float, what: str, more: Callable[[], str] = str) -> None:
    """Ask again and again until it is so, or fail with `what` and `more`."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"{what} after {seconds:.0f} s\n{more()}"
        time.sleep(0.05)  # between two looks at a condition, with a deadline


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
