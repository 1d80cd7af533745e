"""A real Prometheus, a real Alertmanager, and whoever is told by it: Debian's programs, on this machine.

The one rule: each listens on 127.0.0.1, on a port of its own, and is gone at the end. A test that lacks a program skips by
name; in CI it fails.
"""

import json
import math
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest

from streams.jars import cache_directory
from tests.support.workers import ROOT, free_port, wait_for

ALERTMANAGER = ("prometheus-alertmanager", "alertmanager")
"""Debian's name of it, and its own."""


def program(*names: str) -> str:
    """The first of these programs that is here: unpacked by `make prometheus`, or on the PATH."""
    folder = cache_directory() / "prometheus"
    for name in names:
        if found := shutil.which(name, path=f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"):
            return found
    missing = f"needs {' or '.join(names)}: make prometheus"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


def run(*command: str | Path, directory: Path) -> str:
    """Run one of the programs to its good end. Returns what it says."""
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


class Server:
    """A program that serves HTTP. As a context manager it is ended at the end."""

    READY = "/-/ready"
    """The page that is there once it serves."""

    def __init__(self, directory: Path, *command: str, environment: Mapping[str, str] | None = None) -> None:
        """`command` with `{port}` where its port belongs; `environment` is added to ours."""
        self.port = free_port()
        self._log = directory / f"{type(self).__name__.lower()}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [word.replace("{port}", str(self.port)) for word in command],
                cwd=directory,
                env=os.environ | dict(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def __enter__(self) -> Self:
        try:
            wait_for(self._ready, 30, "does not serve", self.log)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(10)

    def log(self) -> str:
        """What it has said."""
        return self._log.read_text("utf-8", "replace")[-4000:]

    def get(self, path: str, **parameters: str) -> Any:
        """What a page of its API says, which is JSON. An error's text fails the test."""
        url = f"http://127.0.0.1:{self.port}{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{parameters}: {error.read().decode('utf-8', 'replace')}") from None

    def _ready(self) -> bool:
        assert self._process.poll() is None, self.log()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{self.READY}", timeout=2) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False


class LagExporter(Server):
    """`towpath lag MODULE --serve`, with a look every second and the file of a reconciliation included."""

    READY = "/metrics"

    def __init__(self, directory: Path, module: str, include: Path, environment: Mapping[str, str]) -> None:
        options = ("--serve", "127.0.0.1:{port}", "--every", "1", "--include", str(include))
        command = (sys.executable, "-m", "streams", "lag", module, *options)
        super().__init__(directory, *command, environment={"PYTHONPATH": str(ROOT), **environment})


class Prometheus(Server):
    """Prometheus with the configuration `prometheus.yml` of a folder."""

    def __init__(self, directory: Path) -> None:
        super().__init__(
            directory,
            program("prometheus"),
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            "--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
            "--enable-feature=exemplar-storage",
        )

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression gives now."""
        found: list[dict[str, Any]] = self.get("/api/v1/query", query=expression)["data"]["result"]
        return found

    def value(self, expression: str) -> float:
        """The one figure that an expression gives now; not a number if there is none."""
        found = self.query(expression)
        return float(found[0]["value"][1]) if found else math.nan

    def drawn(self, expression: str, since: float) -> bool:
        """Whether an expression has given a number at any moment since then (Unix time), as a panel over time draws it."""
        moments = {"start": f"{since}", "end": f"{time.time()}", "step": "1"}
        series = self.get("/api/v1/query_range", query=expression, **moments)["data"]["result"]
        return any(math.isfinite(float(value)) for one in series for _, value in one["values"])

    def exemplars(self, expression: str, since: float) -> list[dict[str, Any]]:
        """The exemplars of the series of an expression since then (Unix time)."""
        found = self.get("/api/v1/query_exemplars", query=expression, start=f"{since}", end=f"{time.time()}")["data"]
        return [exemplar for series in found for exemplar in series["exemplars"]]


class Alertmanager(Server):
    """Alertmanager with the configuration `alertmanager.yml` of a folder."""

    def __init__(self, directory: Path) -> None:
        alertmanager = program(*ALERTMANAGER)
        (directory / "templates").symlink_to(Path(alertmanager).parent / "templates")  # see deploy/prometheus/fetch
        super().__init__(
            directory,
            alertmanager,
            "--config.file=alertmanager.yml",
            "--storage.path=alerts",
            "--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
            "--log.level=warn",
        )


class Receiver:
    """Who is told: a webhook that keeps what comes. As a context manager it is closed at the end."""

    def __init__(self) -> None:
        told: list[tuple[str, Any]] = []
        self.told = told
        """The path that was called, and what was sent there."""

        class Page(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                told.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def alerts(self, path: str) -> list[dict[str, Any]]:
        """The alerts that came to a path."""
        return [alert for at, message in self.told if at == path for alert in message["alerts"]]
