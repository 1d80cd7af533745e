"""The processes of a benchmark: workers of the flow, and bare copies to compare them with.

The one rule: whatever was started here is gone at the end.
"""

import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from os import environ
from pathlib import Path
from typing import Final, Self

from streams.config import Settings

_ROOT: Final = Path(__file__).parents[2]
PEERS: Final = _ROOT / ".peers" / "bin"
"""Programs of the peers' environment, if `make .peers/.ready` has made it."""
_READY: Final = 120.0  # seconds
_STOP: Final = 15.0  # seconds until SIGTERM becomes SIGKILL


class Processes:
    """Some processes, stopped together. As a context manager they are stopped at its end."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._started: list[tuple[subprocess.Popen[bytes], Path, Callable[[], bool]]] = []
        self._foreign: list[subprocess.Popen[bytes]] = []

    @property
    def pids(self) -> list[int]:
        """Those of all, in the order in which they were started."""
        return [process.pid for process, _, _ in self._started]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        ours = [process for process, _, _ in self._started]
        for process in self._foreign:  # what they do at their end is none of what is measured
            process.kill()
        for process in ours:
            process.send_signal(signal.SIGTERM)
        for process in ours:
            try:
                process.wait(_STOP)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def worker(
        self, settings: Settings, flow: str, *stages: str, program: str = "streams", more: Mapping[str, str] | None = None
    ) -> None:
        """Stages of a flow (all without any), as users run them; or by another program, which does without something.

        `more` are variables.
        """
        port = free_port()
        instance = f"bench-{len(self._started)}"
        command = ["run", flow, *stages, "--instance", instance, "--web-port", str(port)]
        variables = {
            "TOWPATH_BOOTSTRAP": settings.bootstrap,
            "TOWPATH_DIR": str(settings.directory),
            "TOWPATH_STORE": settings.store,
            "TOWPATH_DECLINE_SHARE": "0",
            **(more or {}),
        }
        log = f"{'-'.join(stages) or 'all'}-{instance}.log"
        self._start(log, [program, *command], lambda: _answers(f"http://127.0.0.1:{port}/ready"), variables)

    def bare(self, bootstrap: str, group: str, source: str, target: str, batch: int) -> None:
        """One bare copy."""
        log = self._directory / f"{group}.log"
        command = ["tests.bench.bare", bootstrap, group, source, target, str(batch)]
        self._start(log.name, command, lambda: b"ready" in log.read_bytes(), {})

    def loop(self, bootstrap: str, group: str, source: str, target: str) -> None:
        """The bare loop."""
        self._start(f"{group}.log", ["tests.bench.loop", bootstrap, group, source, target], lambda: True, {})

    def peer(self, name: str, bootstrap: str, group: str, source: str, target: str) -> None:
        """One of `tests/bench/peers`, in the peers' environment."""
        command = [f"tests.bench.peers.{name}", bootstrap, group, source, target]
        self._start(f"{group}.log", command, lambda: True, {}, PEERS / "python")
        self._foreign.append(self._started[-1][0])

    def sink(self, port: int) -> None:
        """Somebody who takes what is sent to a port, and throws it away."""
        log = self._directory / "sink.log"
        self._start(log.name, ["tests.bench.sink", str(port)], lambda: b"ready" in log.read_bytes(), {})

    def wait_until_ready(self) -> None:
        """Wait until each owns its partitions."""
        deadline = time.monotonic() + _READY
        for process, log, ready in self._started:
            while not ready():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{log.name}: not ready\n{log.read_text('utf-8', 'replace')[-3000:]}")
                time.sleep(0.05)

    def check(self) -> None:
        """End the benchmark if a process has ended."""
        for process, log, _ in self._started:
            if process.poll() is not None:
                raise SystemExit(f"{log.name}: ended\n{log.read_text('utf-8', 'replace')[-3000:]}")

    def _start(
        self,
        log: str,
        module: list[str],
        ready: Callable[[], bool],
        variables: Mapping[str, str],
        python: Path = Path(sys.executable),
    ) -> None:
        path = self._directory / log
        clean = {name: value for name, value in environ.items() if not name.startswith("TOWPATH_")}
        with path.open("wb") as out:
            process = subprocess.Popen(
                [str(python), "-m", *module],
                cwd=self._directory,  # Faust and Quix leave their state where they are started
                env={**clean, **variables, "PYTHONPATH": str(_ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        self._started.append((process, path, ready))


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:  # noqa: S310  # our own worker's page
            return bool(reply.status == 200)
    except (OSError, urllib.error.HTTPError):
        return False
