"""A server of this machine that outlives who started it: pid and ports are in a file, from which any process finds it again.

The one rule: a process is signalled only if its command line has the server's mark; a reused pid never is.
"""

import json
import os
import random
import signal
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Self

import psutil

from streams.errors import SetupError

HOST: Final = "127.0.0.1"
"""Servers of this machine are reached from it alone."""
_STOP: Final = 20.0  # seconds until SIGTERM becomes SIGKILL
_GONE: Final = 2.0  # seconds without a process: it has ended
_PORTS: Final = range(20_000, 32_000)


class Server:
    """One server and its directory. As a context manager it is stopped at the end.

    `title` is what errors call it, `mark` what only its command line has; `ports` are attributes, kept with the pid.
    """

    def __init__(self, directory: Path, title: str, mark: str, ports: Sequence[str] = ("port",)) -> None:
        self.directory = directory
        self.log = directory / f"{title.lower()}.log"
        self.pid = 0
        self._title = title
        self._mark = mark
        self._kept = ("pid", *ports)
        self._state = directory / f"{title.lower()}.json"
        for name in ports:
            setattr(self, name, 0)
        self._recall()

    @property
    def running(self) -> bool:
        """Whether the process is alive (not: whether it is ready)."""
        return self._process() is not None

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
                self.kill()

    def kill(self) -> None:
        """SIGKILL, as a crash would be: nothing is flushed, nobody is told."""
        if process := self._process():
            process.kill()
            process.wait(_STOP)

    def _recall(self) -> None:
        try:
            state = json.loads(self._state.read_text("utf-8"))
            found = {name: int(state[name]) for name in self._kept}
        except (OSError, ValueError, KeyError, TypeError):  # none yet, or cut short by a crash: it is found no more
            return
        for name, value in found.items():
            setattr(self, name, value)

    def _process(self) -> psutil.Process | None:
        try:
            process = psutil.Process(self.pid) if self.pid else None
            if process and process.status() == psutil.STATUS_ZOMBIE:
                process.wait(0)  # a child of ours that somebody else has killed
            return process if process and self._mark in process.cmdline() else None
        except psutil.Error:
            return None

    def _detach(self, command: list[str]) -> None:
        """Start it, its output in `log`, in a session of its own: neither Ctrl-C nor our end reaches it."""
        with self.log.open("ab") as out:
            self.pid = _spawn(command, out.fileno())
        fresh = self._state.with_suffix(".new")
        fresh.write_text(json.dumps({name: getattr(self, name) for name in self._kept}), "utf-8")
        fresh.replace(self._state)

    def _wait_until(self, serves: Callable[[], bool], seconds: float) -> None:
        """Raises `SetupError`, with the end of the log, if it ends, or does not serve in time."""
        seen = time.monotonic()
        deadline = seen + seconds
        while not serves():
            if self.running:  # for a moment it is not to be seen: Java's launcher starts itself anew
                seen = time.monotonic()
            if time.monotonic() > seen + _GONE:
                raise self._failed(f"{self._title} ended while it started")
            if time.monotonic() > deadline:
                raise self._failed(f"{self._title} is not ready after {seconds:.0f} s")
            time.sleep(0.02)

    def _failed(self, what: str) -> SetupError:
        tail = self.log.read_text("utf-8", "replace").splitlines()[-20:]
        return SetupError("\n".join([what + "; the end of its log:", *tail]), where=str(self.log))


def free_port(wanted: int) -> int:
    """`wanted` if it is free, else any free one.

    Never one that the system gives to outgoing connections: a client that tries again and again while its broker is away would
    sooner or later get the broker's own port, connect to itself, and keep the broker from coming back.
    """
    for port in ([wanted] if wanted else []) + random.sample(_PORTS, 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Java does: connections that linger don't count
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise SetupError(f"no free port on {HOST}", fix="end some of the programs that listen there")


def _spawn(command: list[str], out: int) -> int:
    files = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), (os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, out, 2)]
    heeded = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]  # Java leaves a signal ignored that was ignored when it started
    return os.posix_spawn(command[0], command, os.environ, file_actions=files, setsid=True, setsigmask=[], setsigdef=heeded)
