"""What the simulator has found of databases that go away."""

from contextlib import suppress

import pytest
from sqlalchemy import insert, select

from streams import store
from streams.errors import Unavailable
from streams.record import Record
from streams.simulator.disk import Disk, Link
from streams.store import Inbox
from tests.simulation.till import accounts

TABLE = accounts.tables.tables["accounts"]


def half_a_batch(inbox: Inbox, link: Link) -> None:
    """An account is opened, and then the database goes away while somebody asks for an id."""
    with inbox.batch([], 0.0) as journal:
        journal.repository.execute(insert(TABLE).values(account="ann", position=1, balance=1))
        link.watch = lambda _, lost: lost.lose()
        with suppress(Unavailable):
            journal.recorded("somebody")
        link.watch = None
        journal.record("e", [], Record("till.entered", 0, 0, b"ann", b""))


def test_a_database_that_is_lost_while_an_id_is_looked_up_takes_the_whole_batch_with_it() -> None:
    """SQLite undoes the transaction by itself and then takes statements one by one: half a batch was committed (seed 470)."""
    disk = Disk([accounts])
    link = disk.fresh(None)
    with pytest.raises(Unavailable):
        half_a_batch(Inbox(disk.engine, "till.book", accounts), link)
    with disk.engine.connect() as connection:
        assert connection.execute(select(TABLE)).all() == []
        assert connection.execute(select(store.tables.tables["inbox"].c.event_id)).all() == []
