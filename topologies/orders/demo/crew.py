"""The demo's processes: one for each agent, and the one that sends.

The one rule: whatever was started here is stopped here, or ends by itself when the demo is killed; what it says is in its log.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

from streams.config import Settings
from streams.errors import SetupError

_READY: Final = 60.0  # seconds until an agent must be ready
_STOP: Final = 15.0  # seconds until SIGTERM becomes SIGKILL


class Crew:
    """The processes. As a context manager all are stopped at the end. `variables` are for all of them."""

    def __init__(self, settings: Settings, variables: Mapping[str, str] = MappingProxyType({})) -> None:
        self._directory = settings.directory
        self._environment = os.environ | {
            "TOWPATH_BOOTSTRAP": settings.bootstrap,
            "TOWPATH_DIR": str(settings.directory.absolute()),
            "TOWPATH_STORE": settings.store,
            **variables,
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ports: dict[str, int] = {}
        self._pages: dict[str, str] = {}  # of whoever must be up: what answers 200 once it is

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP
        for process in self._processes.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for process in self._processes.values():
            if process.stdin:
                process.stdin.close()

    @property
    def logs(self) -> str:
        """The log files, for an error message."""
        return ", ".join(str(self._log(name)) for name in self._processes)

    def start(self, name: str, *arguments: str) -> None:
        """Start `towpath` with these arguments."""
        self._start(name, "streams", *arguments)

    def start_server(self, name: str, page: str, module: str, *arguments: str) -> None:
        """Start a module that serves; its `page` answers 200 when it does."""
        self._pages[name] = page
        self._start(name, module, *arguments)

    def _start(self, name: str, module: str, *arguments: str) -> None:
        """On a leash, and in a session of its own: Ctrl-C reaches only the demo."""
        with self._log(name).open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", "topologies.orders.demo.leash", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )

    def start_agent(self, module: str, stage: str) -> None:
        """Start one stage as a worker."""
        self._ports[stage] = free_port()
        self._pages[stage] = f"http://127.0.0.1:{self._ports[stage]}/ready"
        self.start(stage, "run", module, stage, "--instance", f"demo-{stage}", "--web-port", str(self._ports[stage]))

    def wait_until_ready(self) -> None:
        """Wait until every agent owns its partitions and every server serves. Raises `SetupError`, naming the log, if not."""
        deadline = time.monotonic() + _READY
        for name, page in self._pages.items():
            while not _answers(page):
                self.check()
                if time.monotonic() > deadline:
                    raise SetupError(f"{name} is not ready after {_READY:.0f} s", where=str(self._log(name)))
                time.sleep(0.1)

    def check(self) -> None:
        """Raise `SetupError`, with the end of its log, if an agent has ended or another process has failed."""
        for name, process in self._processes.items():
            code = process.poll()
            if code or (code == 0 and name in self._pages):
                end = self._log(name).read_text("utf-8", "replace").splitlines()[-10:]
                raise SetupError(
                    "\n".join([f"{name} ended with {code}; the end of its log:", *end]), where=str(self._log(name))
                )

    def waits_for(self, stage: str) -> tuple[str, float] | None:
        """The dependency that a stage is held for, and since when (seconds since the Unix epoch); None if it is not."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._ports[stage]}/health", timeout=2) as reply:
                page: dict[str, Any] = json.load(reply)["stages"][0]
        except (OSError, urllib.error.HTTPError):
            return None  # it has no time to answer: `check` says if it is dead
        hold = page.get("waits_for")
        return (hold["dependency"], hold["since"]) if hold else None

    def _log(self, name: str) -> Path:
        return self._directory / f"{name}.log"


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:  # noqa: S310  # our own process's page
            return bool(reply.status == 200)
    except (OSError, urllib.error.HTTPError):
        return False
