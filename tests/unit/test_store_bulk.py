"""Repositories that work in bulk: one event that the database refuses does not take the others with it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from streams import migrate
from streams.errors import Conflict
from streams.record import Record
from streams.stage import Store
from streams.store import Inbox
from tests.support.counters import STORE


class Hoard:
    """Names that are written at the end; the database refuses two of them."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.expected = 0
        self.names: list[str] = []

    def expect(self, events: Sequence[str]) -> None:
        self.expected = len(events)
        if "unreadable" in events:
            self.connection.execute(text("SELECT * FROM nowhere"))

    @contextmanager
    def event(self) -> Iterator[None]:
        before = list(self.names)
        try:
            yield
        except BaseException:
            self.names = before
            raise

    def flush(self) -> None:
        for name in self.names:
            value = "NULL" if name == "unwritable" else "1"
            self.connection.execute(text(f"INSERT INTO counters VALUES ('{name}', {value})"))  # noqa: S608  # our own words
        self.names = []


HOARD = Store("counters", tables=STORE.tables, migrations=STORE.migrations, repository=Hoard)


@pytest.fixture
def inbox(url: str) -> Iterator[Inbox]:
    migrate.upgrade(url, [HOARD])
    inbox = Inbox(url, "shop.one", HOARD)
    yield inbox
    inbox.close()


def run(inbox: Inbox, *names: str) -> tuple[int, list[str]]:
    """A batch as the engine runs it. Returns how many events were announced, and those that failed."""
    failed = []
    with inbox.batch(names, 0.0) as journal:
        journal.expect(lambda: names)
        for name in names:
            try:
                with journal.savepoint():
                    journal.repository.names.append(name)
            except DBAPIError:
                failed.append(name)
            else:
                journal.record(name, (), Record("orders", 0, 0, None, None))
        expected: int = journal.repository.expected
    return expected, failed


@pytest.mark.parametrize(("bad", "fails"), [("unwritable", ["unwritable"]), ("unreadable", [])])
def test_a_batch_that_is_refused_as_one_goes_on_event_by_event(inbox: Inbox, bad: str, fails: list[str]) -> None:
    with pytest.raises(Conflict):  # it is run again
        run(inbox, "a", bad, "b")
    assert run(inbox, "a", bad, "b") == (0, fails)
    assert run(inbox, "c") == (1, []), "and the next is one again"
    with inbox.batch([], 0.0) as journal:
        names = set(journal.repository.connection.execute(text("SELECT name FROM counters")).scalars())
        assert names == {"a", "b", "c", bad} - set(fails)
        assert all((journal.recorded(name) is None) == (name in fails) for name in ("a", "b", "c", bad))
