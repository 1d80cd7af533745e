"""Work in several processes, each of which sends what it has found.

The one rule: no job outlives the process that started it, however that ends.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Final, Generic, Self, TypeVar

from streams.errors import SetupError, TowpathError

T = TypeVar("T")
_context: Final = multiprocessing.get_context("spawn")


class Pool(Generic[T]):
    """Jobs at work. As a context manager they are gone at its end. `title` is what errors call one of them."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._running: dict[Connection, SpawnProcess] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for job in self._running.values():
            job.kill()
        for ours, job in self._running.items():
            job.join()
            ours.close()

    def start(self, work: Callable[..., Iterator[T]], *arguments: Any) -> None:
        """One more, which sends what `work` yields. It does not hear Ctrl-C; who started it does."""
        ours, theirs = _context.Pipe(duplex=False)
        job = _context.Process(target=_job, args=(theirs, self._title, work, arguments), daemon=True)
        with _deaf():
            job.start()
        theirs.close()
        self._running[ours] = job

    def messages(self, every: float | None = None) -> Iterator[T | None]:
        """What they send, whichever is there first, until all are done; with `every` (seconds) a None at least that often.

        Raises the error of the first job that fails, and `SetupError` for one that dies.
        """
        open_ = set(self._running)
        while open_:
            for ready in wait(list(open_), timeout=every):
                assert isinstance(ready, Connection)  # noqa: S101  # for mypy: nothing else was asked for
                message = self._received(ready)
                if message is None:
                    open_.remove(ready)
                else:
                    yield message
            if every is not None:
                yield None

    def _received(self, ours: Connection) -> T | None:
        try:
            message: T | TowpathError | None = ours.recv()
        except (EOFError, OSError):
            job = self._running[ours]
            job.join()
            what = f"{self._title} died (exit code {job.exitcode})"
            raise SetupError(what, fix="it may be memory: try fewer --jobs") from None
        if isinstance(message, TowpathError):
            raise message
        return message


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _job(theirs: Connection, title: str, work: Callable[..., Iterator[Any]], arguments: tuple[Any, ...]) -> None:
    """The process: messages, then None; or an error."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        for message in work(*arguments):
            theirs.send(message)
        theirs.send(None)
    except TowpathError as error:
        theirs.send(error)
    except Exception as error:  # whatever it is, it ends all the jobs with one line
        theirs.send(SetupError(f"{title} failed: {type(error).__name__}: {error}", fix="with --jobs 1 it shows where"))


@contextmanager
def _deaf() -> Iterator[None]:
    """What is started here does not hear Ctrl-C, which a terminal sends to all: the process that started it does."""
    resource_tracker.ensure_running()  # it would be started with the first job, and unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _die_with_parent() -> None:
    """A parent that was killed has ended nobody."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # noqa: S101  # for mypy: this is a job
    parent.join()
    os._exit(1)
