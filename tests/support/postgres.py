"""The databases of the tests: each test gets an empty one, SQLite or PostgreSQL.

The one rule: one PostgreSQL serves a whole session; a test that kills or stops a server starts one of its own.
"""

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

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
