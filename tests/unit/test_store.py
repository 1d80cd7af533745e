"""The inbox: an event's effects happen once, with its outputs, or not at all."""

import multiprocessing
import os
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select, text, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError

from streams import store as store_module
from streams.errors import SetupError, Unavailable
from streams.record import Output
from streams.stage import Store
from streams.store import Inbox

tables = MetaData()
counters = Table("counters", tables, Column("name", String, primary_key=True), Column("value", Integer, nullable=False))


class Counters:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def value(self, name: str) -> int:
        return self.connection.execute(select(counters.c.value).where(counters.c.name == name)).scalar_one_or_none() or 0

    def add(self, name: str) -> None:
        value = self.value(name)  # read, then write: two processes that do this at once would lose one
        if value:
            self.connection.execute(update(counters).where(counters.c.name == name).values(value=value + 1))
        else:
            self.connection.execute(insert(counters).values(name=name, value=1))

    def fail(self, statement: str) -> None:
        self.connection.execute(text(statement))


STORE = Store("counters", tables=tables, repository=Counters)
OUTPUTS = (Output("shop.a", b"k", b"\x00value", (("id", b"1"), ("none", None)), 3), Output("shop.b", None, None))


def open_inbox(path: Path, stage: str = "one") -> Inbox:
    inbox = Inbox(f"sqlite:///{path}", stage, STORE)
    inbox.open()
    return inbox


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "store.db"


@pytest.fixture
def inbox(path: Path) -> Iterator[Inbox]:
    inbox = open_inbox(path)
    yield inbox
    inbox.close()


def count(inbox: Inbox, name: str = "n") -> int:
    with inbox.batch([], 0.0) as journal:
        return int(journal.repository.value(name))


def effect(journal: Any, event_id: str) -> tuple[Output, ...]:
    """What the engine does with one event."""
    recorded: tuple[Output, ...] | None = journal.recorded(event_id)
    if recorded is not None:
        return recorded
    with journal.savepoint():
        journal.repository.add("n")
        journal.record(event_id, OUTPUTS)
    return OUTPUTS


def test_an_event_that_comes_again_gives_its_recorded_outputs_and_does_nothing(path: Path, inbox: Inbox) -> None:
    with inbox.batch(["a", "b"], 1.5) as journal:
        assert journal.recorded("a") is None
        assert [effect(journal, event_id) for event_id in ("a", "b", "a")] == [OUTPUTS] * 3
    inbox.close()  # the process dies after the database has committed and before Kafka has
    again = open_inbox(path)
    with again.batch(["a", "c"], 2.5) as journal:
        assert journal.recorded("a") == OUTPUTS
        assert effect(journal, "b") == OUTPUTS  # not asked for in advance
        assert effect(journal, "c") == OUTPUTS
    assert count(again) == 3
    again.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT stage, event_id, recorded_at FROM inbox ORDER BY event_id").fetchall() == [
            ("one", "a", 1500),
            ("one", "b", 1500),
            ("one", "c", 2500),
        ]
    connection.close()


def test_two_stages_in_one_database_know_only_their_own_events(path: Path, inbox: Inbox) -> None:
    with inbox.batch(["a"], 0.0) as journal:
        effect(journal, "a")
    other = open_inbox(path, "two")
    with other.batch(["a"], 0.0) as journal:
        assert journal.recorded("a") is None
    other.close()


def test_a_batch_that_fails_leaves_neither_effects_nor_rows(inbox: Inbox) -> None:
    def batch() -> None:
        with inbox.batch(["a"], 0.0) as journal:
            effect(journal, "a")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        batch()
    assert count(inbox) == 0
    with inbox.batch(["a"], 0.0) as journal:
        assert journal.recorded("a") is None


def test_an_event_that_fails_undoes_itself_and_no_other(inbox: Inbox) -> None:
    def event(journal: Any) -> None:
        with journal.savepoint():
            effect(journal, "bad")
            raise ValueError("bad event")

    with inbox.batch(["good", "bad"], 0.0) as journal:
        effect(journal, "good")
        with pytest.raises(ValueError, match="bad event"):
            event(journal)
        assert journal.recorded("bad") is None
        assert effect(journal, "later") == OUTPUTS
    with inbox.batch(["good", "bad", "later"], 0.0) as journal:
        assert [journal.recorded(event_id) for event_id in ("good", "bad", "later")] == [OUTPUTS, None, OUTPUTS]
    assert count(inbox) == 2


def test_a_large_batch_is_looked_up_whole(inbox: Inbox) -> None:
    ids = [f"{number:032x}" for number in range(40_000)]
    with inbox.batch(ids, 0.0) as journal:
        for event_id in ids[::7]:
            journal.record(event_id, ())
    with inbox.batch(ids, 0.0) as journal:
        assert [event_id for event_id in ids if journal.recorded(event_id) is not None] == ids[::7]


def test_another_thread_may_take_over(inbox: Inbox) -> None:
    def batch() -> None:
        with inbox.batch(["a"], 0.0) as journal:
            effect(journal, "a")

    thread = threading.Thread(target=batch)
    thread.start()
    thread.join()
    assert count(inbox) == 1


def test_a_locked_database_is_unavailable_and_then_goes_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_BUSY", 0.05)
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
            journal.repository.fail(also)
            journal.repository.fail("INSERT INTO counters SELECT hex(randomblob(500000)), 1")

    def batch() -> None:
        with inbox.batch(["a", "b"], 0.0) as journal:
            effect(journal, "a")
            journal.repository.fail("PRAGMA max_page_count = 1")  # SQLite keeps what there is and refuses a page more
            with pytest.raises(Unavailable, match="database"):
                fill(journal)
            with pytest.raises(Unavailable, match="database"):
                effect(journal, "b")

    with pytest.raises(Unavailable, match="database"):
        batch()
    with inbox.batch([], 0.0) as journal:
        journal.repository.fail("PRAGMA max_page_count = 1000000")
    assert count(inbox) == 0


def test_a_wrong_statement_is_no_outage(inbox: Inbox) -> None:
    with inbox.batch(["a"], 0.0) as journal:
        with pytest.raises(OperationalError, match="no such table"), journal.savepoint():
            journal.repository.fail("SELECT * FROM nowhere")
        assert effect(journal, "a") == OUTPUTS
    assert count(inbox) == 1


def _handle_all(path: Path, ready: Any) -> None:
    ready.wait()
    inbox = open_inbox(path)
    for start in range(0, 120, 4):
        ids = [str(number) for number in range(start, start + 4)]
        with inbox.batch(ids, 0.0) as journal:
            for event_id in ids:
                effect(journal, event_id)
    inbox.close()


def test_processes_that_start_and_work_at_once_neither_deadlock_nor_double(path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Barrier(4)
    workers = [spawn.Process(target=_handle_all, args=(path, ready)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    inbox = open_inbox(path)
    assert count(inbox) == 120
    inbox.close()


def _die_inside(path: Path) -> None:
    inbox = open_inbox(path)
    with inbox.batch(["a"], 0.0) as journal:
        effect(journal, "a")
        journal.save(0.0)
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_killed_inside_a_batch_leaves_nothing_and_locks_nobody_out(path: Path) -> None:
    worker = multiprocessing.get_context("spawn").Process(target=_die_inside, args=(path,))
    worker.start()
    worker.join(60)
    assert worker.exitcode == -signal.SIGKILL
    inbox = open_inbox(path)
    with inbox.batch(["a"], 0.0) as journal:
        assert journal.recorded("a") is None
    assert count(inbox) == 0
    inbox.close()


def test_the_database_is_safe_at_every_commit(path: Path, inbox: Inbox) -> None:
    with inbox.batch([], 0.0) as journal:
        pragma: Callable[[str], Any] = lambda name: journal.repository.connection.execute(text(f"PRAGMA {name}")).scalar()  # noqa: E731  # read at once
        assert (pragma("journal_mode"), pragma("synchronous"), pragma("foreign_keys")) == ("wal", 2, 1)
    assert path.exists()


@pytest.mark.parametrize("url", ["", "nonsense", "nodb://user:secret@host/x", "sqlite:////proc/nowhere/store.db"])
def test_a_url_that_cannot_be_used_is_told_without_its_password(url: str) -> None:
    with pytest.raises(SetupError) as caught:
        Inbox(url, "one", STORE).open()
    assert caught.value.where == "TOWPATH_STORE"
    assert caught.value.fix
    assert "secret" not in str(caught.value)
