"""The inbox: an event's effects happen once, with its outputs, or not at all. One suite, on SQLite and on PostgreSQL."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event, select
from sqlalchemy.exc import DBAPIError

from streams import migrate
from streams.errors import SetupError
from streams.record import Output, Record
from streams.stage import Store
from streams.store import Inbox, tables
from tests.support.counters import STORE

OUTPUTS = (Output("shop.a", b"k", b"\x00value", (("id", b"1"), ("none", None)), 3), Output("shop.b", None, None))


def open_inbox(url: str, consumer: str = "shop.one", store: Store[Any] = STORE) -> Inbox:
    migrate.upgrade(url, [store])
    inbox = Inbox(url, consumer, store)
    inbox.open()
    return inbox


@pytest.fixture
def inbox(url: str) -> Iterator[Inbox]:
    inbox = open_inbox(url)
    yield inbox
    inbox.close()


def count(inbox: Inbox, name: str = "n") -> int:
    with inbox.batch([], 0.0) as journal:
        return int(journal.repository.value(name))


def effect(journal: Any, event_id: str, offset: int = 0) -> tuple[Output, ...]:
    """What the engine does with one event."""
    recorded: tuple[Output, ...] | None = journal.recorded(event_id)
    if recorded is not None:
        return recorded
    with journal.savepoint():
        journal.repository.add("n")
    journal.record(event_id, OUTPUTS, Record("orders", 3, offset, None, None))
    return OUTPUTS


def test_an_event_that_comes_again_gives_its_recorded_outputs_and_does_nothing(url: str, inbox: Inbox) -> None:
    with inbox.batch(["a", "b"], 1.5, [3]) as journal:
        assert journal.recorded("a") is None
        assert [effect(journal, event_id, 7) for event_id in ("a", "b", "a")] == [OUTPUTS] * 3
    inbox.close()  # the process dies after the database has committed and before Kafka has
    again = open_inbox(url)
    with again.batch(["a", "c"], 2.5, [3]) as journal:
        assert journal.recorded("a") == OUTPUTS
        assert effect(journal, "b") == OUTPUTS  # not asked for in advance
        assert effect(journal, "c", 9) == OUTPUTS
    assert count(again) == 3
    table = tables.tables["inbox"]
    with again.batch([], 0.0) as journal:
        rows = journal.repository.connection.execute(select(table).order_by(table.c.event_id)).all()
    assert [(r.consumer, r.event_id, r.topic, r.partition, r.offset, r.recorded_at) for r in rows] == [
        ("shop.one", "a", "orders", 3, 7, 1500),
        ("shop.one", "b", "orders", 3, 7, 1500),
        ("shop.one", "c", "orders", 3, 9, 2500),
    ]
    again.close()


def test_two_consumers_in_one_database_know_only_their_own_events(url: str, inbox: Inbox) -> None:
    with inbox.batch(["a"], 0.0) as journal:
        effect(journal, "a")
    other = open_inbox(url, "shop.two")
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
    def fail(journal: Any) -> None:
        with journal.savepoint():
            effect(journal, "bad")
            raise ValueError("bad event")

    with inbox.batch(["good", "bad"], 0.0) as journal:
        effect(journal, "good")
        for _ in range(2):
            with pytest.raises(ValueError, match="bad event"):
                fail(journal)
        assert journal.recorded("bad") is None
        assert effect(journal, "later") == OUTPUTS
    with inbox.batch(["good", "bad", "later"], 0.0) as journal:
        assert [journal.recorded(event_id) for event_id in ("good", "bad", "later")] == [OUTPUTS, None, OUTPUTS]
    assert count(inbox) == 2


def test_a_wrong_statement_is_its_events_fault_and_no_outage(inbox: Inbox) -> None:
    def fail(journal: Any) -> None:
        with journal.savepoint():
            journal.repository.add("n")
            journal.repository.run("SELECT * FROM nowhere")

    with inbox.batch(["a"], 0.0) as journal:
        with pytest.raises(DBAPIError, match="nowhere"):
            fail(journal)
        assert effect(journal, "a") == OUTPUTS
    assert count(inbox) == 1


def test_an_event_without_effects_costs_no_statement(inbox: Inbox) -> None:
    with inbox.batch(["a"], 0.0) as journal:
        seen: list[str] = []
        event.listen(journal.repository.connection, "after_cursor_execute", lambda *args: seen.append(args[2]))
        with journal.savepoint():
            pass
        assert seen == []
        effect(journal, "a")
        assert seen[0] == "SAVEPOINT event"


def test_a_large_batch_is_looked_up_whole(inbox: Inbox) -> None:
    ids = [f"{number:032x}" for number in range(40_000)]
    with inbox.batch(ids, 0.0) as journal:
        for event_id in ids[::7]:
            journal.record(event_id, (), Record("orders", 0, 0, None, None))
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


def _handle_all(url: str, ready: Any) -> None:
    ready.wait()
    inbox = open_inbox(url)
    for start in range(0, 120, 4):
        ids = [str(number) for number in range(start, start + 4)]
        with inbox.batch(ids, 0.0) as journal:
            for event_id in ids:
                effect(journal, event_id)
    inbox.close()


def test_processes_that_start_and_work_at_once_neither_deadlock_nor_double(url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Barrier(4)
    workers = [spawn.Process(target=_handle_all, args=(url, ready)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    inbox = open_inbox(url)
    assert count(inbox) == 120
    inbox.close()


def _die_inside(url: str) -> None:
    inbox = open_inbox(url)
    with inbox.batch(["a"], 0.0) as journal:
        effect(journal, "a")
        journal.save(0.0)
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_killed_inside_a_batch_leaves_nothing_and_locks_nobody_out(url: str) -> None:
    worker = multiprocessing.get_context("spawn").Process(target=_die_inside, args=(url,))
    worker.start()
    worker.join(60)
    assert worker.exitcode == -signal.SIGKILL
    inbox = open_inbox(url)
    with inbox.batch(["a"], 0.0) as journal:
        assert journal.recorded("a") is None
    assert count(inbox) == 0
    inbox.close()


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "nonsense",
        "nodb://user:secret@host/x",
        "mysql://user:secret@host/x",
        "sqlite:////proc/nowhere/store.db",
        "postgresql://user:secret@127.0.0.1:1/x",
    ],
)
def test_a_url_that_cannot_be_used_is_told_without_its_password(bad: str) -> None:
    with pytest.raises(SetupError) as caught:
        Inbox(bad, "one", STORE).open()
    assert caught.value.where == "TOWPATH_STORE"
    assert caught.value.fix
    assert "secret" not in str(caught.value)


def test_a_statement_that_failed_unnoticed_fails_its_event(postgres_url: str) -> None:
    inbox = open_inbox(postgres_url)

    def go_on(journal: Any) -> None:
        with journal.savepoint():
            journal.repository.add("n")
            with pytest.raises(DBAPIError):
                journal.repository.run("SELECT * FROM nowhere")

    with inbox.batch(["a"], 0.0) as journal:
        with pytest.raises(RuntimeError, match="a statement failed"):
            go_on(journal)
        effect(journal, "a")
    assert count(inbox) == 1
    inbox.close()


def test_a_database_that_is_behind_is_named_with_what_to_do(url: str) -> None:
    with pytest.raises(SetupError, match="inbox is at nothing and has to be at 0001; run `towpath db upgrade") as caught:
        Inbox(url, "one", STORE).open()
    assert caught.value.where == "TOWPATH_STORE"
