"""Which workers run on this machine, and where each serves its pages: one file each in `TOWPATH_DIR/run`.

The one rule: a file speaks for a living process only; what the dead have left is taken away by whoever sees it.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import psutil


class Entry(msgspec.Struct, frozen=True):
    """One worker. `started` is its process's start, in seconds since the Unix epoch: pids are used again."""

    topology: str
    stages: tuple[str, ...]
    url: str
    pid: int
    started: float


@contextmanager
def enlisted(directory: Path, topology: str, stages: Sequence[str], url: str) -> Iterator[None]:
    """This process is a worker for as long as this is entered. A folder that cannot be written to is no reason not to work."""
    entry = Entry(topology, tuple(stages), url, os.getpid(), psutil.Process().create_time())
    path = _folder(directory) / f"{topology}-{entry.pid}.json"
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.encode(entry))
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()


def listed(directory: Path, topology: str) -> list[Entry]:
    """The living workers of a topology, by their addresses."""
    found = []
    for path in sorted(_folder(directory).glob("*.json")):
        try:
            entry = msgspec.json.decode(path.read_bytes(), type=Entry)
        except (OSError, msgspec.DecodeError):
            continue  # it is being written, or is none of ours
        if not _lives(entry):
            with suppress(OSError):
                path.unlink()
        elif entry.topology == topology:
            found.append(entry)
    return sorted(found, key=lambda entry: (entry.stages, entry.url))


def _folder(directory: Path) -> Path:
    return directory / "run"


def _lives(entry: Entry) -> bool:
    try:
        return bool(abs(psutil.Process(entry.pid).create_time() - entry.started) < 1)
    except psutil.Error:
        return False
