"""The inbox on SQLite: its locks, its full disk and its care for what it has written."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams import database, migrate
from streams.errors import Unavailable
from streams.record import Record
from streams.store import Inbox
from tests.support.counters import STORE


def open_inbox(path: Path) -> Inbox:
    migrate.upgrade(f"sqlite:///{path}", [STORE])
    inbox = Inbox(f"sqlite:///{path}", "shop.one", STORE)
    inbox.open()
    return inbox


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def inbox(path: Path) -> Iterator[Inbox]:
    inbox = open_inbox(path)
    yield inbox
    inbox.close()


def count(inbox: Inbox) -> int:
    with inbox.batch([], 0.0) as journal:
        return int(journal.repository.value("n"))


def effect(journal: Any, event_id: str) -> None:
    with journal.savepoint():
        journal.repository.add("n")
    journal.record(event_id, (), Record("orders", 0, 0, None, None))


def test_a_locked_database_is_unavailable_and_then_goes_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_BUSY", 0.05)
    inbox = open_inbox(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="database"):
        count(inbox)
    other.execute("ROLLBACK")
    other.close()
    assert count(inbox) == 0
    inbox.close()


@pytest.mark.parametrize("also", ["SELECT 1", "ROLLBACK"])  # some failures make SQLite end the whole transaction
def test_a_full_disk_loses_the_batch_and_says_so_even_when_an_event_hides_it(inbox: Inbox, also: str) -> None:
    def fill(journal: Any) -> None:
        with journal.savepoint():
            journal.repository.run(also)
            journal.repository.run("INSERT INTO counters SELECT hex(randomblob(500000)), 1")

    def batch() -> None:
        with inbox.batch(["a", "b"], 0.0) as journal:
            effect(journal, "a")
            journal.repository.run("PRAGMA max_page_count = 1")  # SQLite keeps what there is and refuses a page more
            with pytest.raises(Unavailable, match="database"):
                fill(journal)
            with pytest.raises(Unavailable, match="database"):
                effect(journal, "b")

    with pytest.raises(Unavailable, match="database"):
        batch()
    with inbox.batch([], 0.0) as journal:
        journal.repository.run("PRAGMA max_page_count = 1000000")
    assert count(inbox) == 0


def test_a_handler_that_hides_the_end_of_its_transaction_loses_the_batch(inbox: Inbox) -> None:
    def batch() -> None:
        with inbox.batch(["a", "b"], 0.0) as journal:
            effect(journal, "a")
            with pytest.raises(Unavailable), journal.savepoint():
                journal.repository.run("ROLLBACK")
            with pytest.raises(Unavailable):
                effect(journal, "b")  # else it would be a transaction of its own, committed without an inbox row

    with pytest.raises(Unavailable):
        batch()
    assert count(inbox) == 0


def test_the_database_is_safe_at_every_commit(path: Path, inbox: Inbox) -> None:
    with inbox.batch([], 0.0) as journal:
        pragmas = [journal.repository.run(f"PRAGMA {name}") for name in ("journal_mode", "synchronous", "foreign_keys")]
    assert pragmas == ["wal", 2, 1]
    assert path.exists()
