"""What befalls a worker: it dies, ends, freezes, has the wrong time, or runs out of files or memory.

The one rule: a fault is done to a process from outside; what the worker makes of it is its own affair.
"""

import os
import resource
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import psutil
import pytest

from tests.faults.arena import Arena
from tests.support.workers import Worker

_MEMORY: Final = Path("/sys/fs/cgroup/memory")  # version 1
_UNIFIED: Final = Path("/sys/fs/cgroup")  # version 2
_ROOM: Final = 2 << 20  # bytes that a worker may take beside what it has


def killed(arena: Arena, times: int = 8) -> None:
    """SIGKILL; started again at once as the same instance. Before each the workers are restarted in good order: one who finds
    that its predecessor died is careful for a minute (see `killed_again`)."""
    for turn in range(times):
        worker = arena.workers[turn % len(arena.workers)]
        worker.kill()
        since = time.monotonic()
        worker.start()
        arena.struck(since)
        if turn < times - 1:
            _tidy(arena)


def killed_again(arena: Arena) -> None:
    """Three times SIGKILL within a minute: the runtime takes it that a record kills, and goes record by record."""
    for _ in range(3):
        worker = arena.workers[0]
        worker.kill()
        since = time.monotonic()
        worker.start()
        arena.struck(since)
    arena.last(5)


def terminated(arena: Arena, times: int = 4) -> None:
    """SIGTERM, and a new start."""
    for turn in range(times):
        worker = arena.workers[turn % len(arena.workers)]
        since = time.monotonic()
        code, seconds = worker.terminate()
        arena.note(f"ended with {code} in {seconds:.1f} s")
        worker.start()
        arena.struck(since)


def frozen(arena: Arena, times: int = 2) -> None:
    """SIGSTOP until the others have taken over, and SIGCONT: a zombie that still holds a transaction."""
    for turn in range(times):
        worker = arena.workers[turn % len(arena.workers)]
        began = time.monotonic()
        worker.freeze()
        arena.wait(lambda worker=worker: arena.owned(but=worker), 90, "nobody takes over", arena.crew.logs, step=0.5)  # type: ignore[misc]
        taken = time.monotonic() - began
        arena.last(3)
        worker.thaw()
        since = time.monotonic()
        arena.note(f"the other had taken over after {taken:.1f} s")
        arena.struck(since)
        _tidy(arena)


def skewed(arena: Arena) -> None:
    """The clock of one worker is set forward by 20 s, then back by 40, then right (libfaketime)."""
    library = _faketime()
    worker = arena.workers[0]
    clock = arena.crew.directory / "clock"
    clock.write_text("+0\n")
    worker.terminate()
    worker.start(
        {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_CACHE_DURATION": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }
    )
    arena.wait(lambda: worker.ready, 60, "it does not come up", arena.crew.logs)
    for shift in ("+20", "-20", "+0"):
        clock.write_text(f"{shift}\n")
        arena.last(8)
    arena.struck(time.monotonic())
    worker.terminate()
    worker.start()


def no_files(arena: Arena) -> None:
    """A worker may open no file or connection more, while its connections are ended."""
    worker = arena.workers[0]
    process = psutil.Process(worker.process.pid)
    limits = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (process.num_fds() // 2, limits[1]))
    for node in arena.cluster.nodes:
        with node.client.cut("refuse", [process.pid]):
            pass
    arena.last(12)
    if worker.process.poll() is None and worker.process.pid == process.pid:
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, limits)
    arena.struck(time.monotonic())


def out_of_memory(arena: Arena) -> None:
    """The kernel kills a worker at its cgroup's limit, as large orders come in a row; its next life has no limit."""
    worker = arena.workers[0]
    lives = len(worker.ends)
    with _Limit(worker) as limit:
        for _ in range(10):
            arena.shop.large(50)
            arena.last(1)
            if len(worker.ends) > lives:
                break
        since = time.monotonic()
        killed = limit.kills()
    if len(worker.ends) == lives:
        pytest.skip("the worker stays within its limit")
    arena.note(f"ended with {worker.ends[lives]}; the kernel counts {killed} kills")
    arena.struck(since)


class _Limit:
    """A memory cgroup that holds one process, with little room more than it has."""

    def __init__(self, worker: Worker) -> None:
        self._pid = worker.process.pid
        one = (_MEMORY / "memory.limit_in_bytes").exists()
        self._folder = (_MEMORY if one else _UNIFIED) / f"towpath-faults-{os.getpid()}"
        self._limit = "memory.limit_in_bytes" if one else "memory.max"
        self._events = "memory.oom_control" if one else "memory.events"

    def __enter__(self) -> "_Limit":
        try:
            self._folder.mkdir()
            (self._folder / "cgroup.procs").write_text(str(self._pid))
            (self._folder / self._limit).write_text(str(_ROOM))
        except OSError as error:
            pytest.skip(f"no memory cgroup can be made here: {error}")
        return self

    def __exit__(self, *_: object) -> None:
        (self._folder / self._limit).write_text(str(1 << 40))
        if psutil.pid_exists(self._pid):
            parent = self._folder.parent / "cgroup.procs"
            parent.write_text(str(self._pid))
        self._folder.rmdir()

    def kills(self) -> int:
        """How often the kernel has killed in it."""
        lines = (self._folder / self._events).read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def _tidy(arena: Arena) -> None:
    """Restart the workers in good order: whoever comes next finds no trace of a death."""
    for worker in arena.workers:
        worker.terminate()
    for worker in arena.workers:
        worker.start()
    arena.recovered(time.monotonic())


def _faketime() -> Path:
    found = find_spec("libfaketime")
    home = Path(found.origin).parent if found and found.origin else Path("nowhere")
    library = next(home.rglob("libfaketime.so.1"), None)
    if library is None:
        pytest.skip("there is no libfaketime to be loaded here")
    return library
