"""The databases of the tests: each test gets an empty one, SQLite or PostgreSQL.

The one rule: one PostgreSQL serves a whole session; a test that kills or stops a server starts one of its own.
"""

import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from streams.postgres import LocalPostgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[LocalPostgres]:
    """A ready server, stopped when the session ends."""
    with own_server() as server:
        yield server


@contextmanager
def own_server() -> Iterator[LocalPostgres]:
    """A ready server that nobody else uses. Not in pytest's folder: each pytest that starts closes that to other users."""
    with (
        tempfile.TemporaryDirectory(prefix="towpath-pg-") as folder,
        LocalPostgres.start(Path(folder) / "data") as server,
    ):
        yield server


@pytest.fixture
def postgres_url(postgres: LocalPostgres) -> str:
    """An empty PostgreSQL database."""
    return postgres.create(f"t_{uuid.uuid4().hex}")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'deep' / 'store.db'}"
    found: str = request.getfixturevalue("postgres_url")
    return found


@pytest.fixture
def other(postgres_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A client of `postgres_url` that knows nothing of Towpath."""
    with raw(postgres_url) as connection:
        yield connection


def raw(url: str) -> psycopg.Connection[Any]:
    """A client that knows nothing of Towpath."""
    parsed = make_url(url)
    return psycopg.connect(host=str(parsed.query["host"]), user="postgres", dbname=parsed.database, autocommit=True)


def waiting(connection: psycopg.Connection[Any]) -> bool:
    """Whether anybody waits for a lock in its database."""
    statement = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    row = connection.execute(statement).fetchone()
    return bool(row and row[0])


def wait_until(done: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Meanwhile:
    """Something done on another thread; `result` waits for it."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._result: Any = None
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[], Any]) -> None:
        try:
            self._result = work()
        except Exception as error:  # handed to whoever asks
            self._result = error

    def join(self, seconds: float) -> None:
        """Wait so long for its end, which may not come."""
        self._thread.join(seconds)

    def result(self) -> Any:
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self._result
