"""Processes that meet in one PostgreSQL: zombies, successors, the same event twice, and the frozen."""

import threading
from typing import Any

import psycopg
import pytest

from streams import database
from streams.errors import Conflict, Unavailable
from streams.record import Record
from streams.stage import Store
from tests.support.counters import STORE
from tests.support.postgres import Meanwhile, wait_until, waiting
from tests.support.shop import OUTPUTS, batch, count, effect, open_inbox

SHARED = Store("counters", tables=STORE.tables, migrations=STORE.migrations, repository=STORE.repository, concurrent=True)


@pytest.mark.parametrize("store", [STORE, SHARED], ids=["turns", "concurrent"])
def test_a_zombie_and_its_successor_on_one_event_have_one_effect(
    postgres_url: str, other: psycopg.Connection[Any], store: Store[Any]
) -> None:
    zombie, successor = open_inbox(postgres_url, store), open_inbox(postgres_url, store)

    def late() -> Any:
        with successor.batch(["a"], 0.0, [3]) as journal:
            return journal.recorded("a")

    with zombie.batch(["a"], 0.0, [3]) as journal:
        effect(journal, "a", 3)
        meanwhile = Meanwhile(late)
        wait_until(lambda: waiting(other))  # it does not look before the other has done
    assert meanwhile.result() == OUTPUTS
    assert count(zombie) == 1
    zombie.close()
    successor.close()


def test_the_same_event_by_two_partitions_at_once_has_one_effect(postgres_url: str, other: psycopg.Connection[Any]) -> None:
    first, second = open_inbox(postgres_url, SHARED), open_inbox(postgres_url, SHARED)
    looked, saved = threading.Event(), threading.Event()

    def meet() -> None:
        with second.batch(["a"], 0.0, [1]) as late:
            assert late.recorded("a") is None
            late.record("a", (), Record("orders", 1, 0, None, None))
            looked.set()
            assert saved.wait(30)

    with first.batch(["a"], 0.0, [0]) as journal:
        meanwhile = Meanwhile(meet)
        assert looked.wait(30)
        journal.record("a", OUTPUTS, Record("orders", 0, 0, None, None))
        journal.save(0.0)
        journal._new.clear()  # it is written
        saved.set()
        wait_until(lambda: waiting(other))  # whoever writes first is first
    assert isinstance(meanwhile.result(), Conflict)  # and is run again
    with second.batch(["a"], 0.0, [1]) as journal:
        assert journal.recorded("a") == OUTPUTS
    first.close()
    second.close()


def test_batches_of_other_partitions_do_not_wait_where_the_store_allows_it(postgres_url: str) -> None:
    first, second = open_inbox(postgres_url, SHARED), open_inbox(postgres_url, SHARED)
    with first.batch(["a"], 0.0, [0]) as journal:
        journal.record("a", OUTPUTS, Record("orders", 0, 0, None, None))
        with second.batch(["b"], 0.0, [1]) as late:
            late.record("b", OUTPUTS, Record("orders", 1, 0, None, None))
    first.close()
    second.close()


def test_a_worker_that_is_frozen_inside_a_batch_locks_its_successor_out_only_for_so_long(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_MARGIN", 0.5)
    frozen, successor = open_inbox(postgres_url, time_limit=0.5), open_inbox(postgres_url)

    def thaw() -> None:
        with frozen.batch(["a"], 0.0) as journal:
            effect(journal, "a")
            batch(successor, "a")  # waits for the turn, until the server ends the silent session
            effect(journal, "b")

    with pytest.raises(Unavailable, match="database"):
        thaw()
    assert count(successor) == 1
    frozen.close()
    successor.close()


def test_a_turn_that_does_not_come_is_unavailable(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_BUSY", 0.2)
    first, second = open_inbox(postgres_url), open_inbox(postgres_url)
    with first.batch(["a"], 0.0) as journal:
        effect(journal, "a")
        with pytest.raises(Unavailable, match="database"):
            batch(second, "b")
    batch(second, "b")
    assert count(second) == 2
    first.close()
    second.close()
