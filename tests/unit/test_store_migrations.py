"""Migrations: a database becomes what the stores need, whole or not at all, and a worker knows when it has not."""

import logging
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, inspect

from streams import migrate
from streams.errors import SetupError
from streams.stage import Store
from streams.store import Inbox, tables
from topologies.orders import orders
from topologies.orders.stock import stock

FIRST = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "0001", None
def upgrade():
    op.create_table("shelf", sa.Column("name", sa.String, primary_key=True))
"""
SECOND = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "0002", "0001"
def upgrade():
    op.add_column("shelf", sa.Column("height", sa.Integer))
"""
declared = MetaData()
Table("shelf", declared, Column("name", String, primary_key=True), Column("height", Integer))


def shelves(folder: Path, *revisions: str) -> Store[Any]:
    folder.mkdir(parents=True)
    for number, revision in enumerate(revisions, 1):
        (folder / f"v{number:04}.py").write_text(revision)
    return Store("shelves", tables=declared, migrations=folder, repository=str)


def revisions(url: str, store: Store[Any]) -> list[tuple[str, str | None, tuple[str, ...]]]:
    return [(state.store, state.now, state.pending) for state in migrate.status(url, [store])]


def test_a_database_is_brought_up_to_date_step_by_step_and_once(url: str, tmp_path: Path) -> None:
    old, new = shelves(tmp_path / "old %d", FIRST), shelves(tmp_path / "new", FIRST, SECOND)
    assert revisions(url, old) == [("inbox", None, ("0001",)), ("shelves", None, ("0001",))]
    migrate.upgrade(url, [old])
    assert revisions(url, old) == [("inbox", "0001", ()), ("shelves", "0001", ())]
    assert revisions(url, new) == [("inbox", "0001", ()), ("shelves", "0001", ("0002",))]
    with pytest.raises(SetupError, match="shelves is at 0001 and has to be at 0002; run `towpath db upgrade"):
        Inbox(url, "shop.one", new).open()
    assert [state.pending for state in migrate.upgrade(url, [new])] == [(), ("0002",)]
    assert [state.pending for state in migrate.upgrade(url, [new])] == [(), ()]
    inbox = Inbox(url, "shop.one", new)
    inbox.open()
    inbox.close()


def test_a_worker_of_the_old_version_goes_on_with_a_newer_database(
    url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    migrate.upgrade(url, [shelves(tmp_path / "new", FIRST, SECOND)])
    old = shelves(tmp_path / "old", FIRST)
    assert [state.unknown for state in migrate.status(url, [old])] == [False, True]
    inbox = Inbox(url, "shop.one", old)
    with caplog.at_level(logging.WARNING):
        inbox.open()
    inbox.close()
    assert "shelves is at 0002, which is newer than this program's 0001" in caplog.text
    migrate.upgrade(url, [old])  # and it does not take the newer one back
    assert migrate.status(url, [old])[1].now == "0002"


def test_an_upgrade_that_fails_changes_nothing(url: str, tmp_path: Path) -> None:
    store = shelves(tmp_path / "bad", FIRST, SECOND.replace('"shelf"', '"nowhere"'))
    with pytest.raises(SetupError, match="nowhere"):
        migrate.upgrade(url, [store])
    assert revisions(url, store) == [("inbox", None, ("0001",)), ("shelves", None, ("0001", "0002"))]
    engine = create_engine(url)
    assert "shelf" not in inspect(engine).get_table_names()
    engine.dispose()


def test_a_revision_that_was_forgotten_is_told(url: str, tmp_path: Path) -> None:
    store = shelves(tmp_path / "old", FIRST)  # the program's table has a height
    migrate.upgrade(url, [store])
    (difference,) = migrate.differences(url, store)
    assert "add_column" in difference
    assert "height" in difference
    complete = shelves(tmp_path / "new", FIRST, SECOND)
    migrate.upgrade(url, [complete])
    assert migrate.differences(url, complete) == []


def test_the_released_revisions_make_the_tables_that_the_programs_declare(url: str, tmp_path: Path) -> None:
    migrate.upgrade(url, migrate.stores(orders))
    inbox = Store("inbox-itself", tables=tables, migrations=tmp_path, repository=str)
    assert {store.name: migrate.differences(url, store) for store in (inbox, *migrate.stores(orders))} == {
        store.name: [] for store in (inbox, *migrate.stores(orders))
    }
    assert stock in migrate.stores(orders)


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ((), "empty"),
        ((FIRST, FIRST.replace("0001", "0009")), "no revisions"),
        ((SECOND,), "no revisions"),
        (("def",), "no revisions"),
    ],
)
def test_a_folder_that_is_no_history_is_told_with_its_path(tmp_path: Path, files: tuple[str, ...], what: str) -> None:
    store = shelves(tmp_path / "odd", *files)
    with pytest.raises(SetupError, match=what) as caught:
        migrate.upgrade(f"sqlite:///{tmp_path / 'x.db'}", [store])
    assert caught.value.where == str(tmp_path / "odd")


def _upgrade(url: str, ready: Any) -> None:
    ready.wait()
    migrate.upgrade(url, migrate.stores(orders))


def test_pods_that_upgrade_at_once_take_turns(url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Barrier(3)
    pods = [spawn.Process(target=_upgrade, args=(url, ready)) for _ in range(3)]
    for pod in pods:
        pod.start()
    for pod in pods:
        pod.join(60)
    assert [pod.exitcode for pod in pods] == [0] * 3
    assert not any(state.pending for state in migrate.status(url, migrate.stores(orders)))


def test_two_stores_of_one_name_are_refused(tmp_path: Path) -> None:
    one, other = shelves(tmp_path / "one", FIRST), shelves(tmp_path / "other", FIRST)
    with pytest.raises(SetupError, match="two stores are named 'shelves'"):
        migrate.upgrade(f"sqlite:///{tmp_path / 'x.db'}", [one, other])
