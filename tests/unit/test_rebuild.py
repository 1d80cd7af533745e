"""Rebuild: the database that a stage's topics make is the live one; a row that somebody changed is found."""

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams import names
from streams.config import Settings
from streams.errors import SetupError
from streams.ops.rebuild import Rebuilt, RowDifference, compare, prepare, rebuild
from streams.ops.replay.evidence import Evidence
from streams.ops.replay.rerun import Rerun, Timeline
from streams.snapshot import snapshot
from streams.testing import Simulation
from tests.support.history import CODEC, history, inputs, outputs, stocked
from topologies.orders import orders

STAGES = ("intake", "inventory", "settlement")


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Simulation, Settings]]:
    with history(tmp_path_factory.mktemp("history")) as found:
        yield found


def rebuilt(past: tuple[Simulation, Settings], stage: str, live_url: str, folder: Path) -> tuple[Rebuilt, list[RowDifference]]:
    flow, settings = past
    found = orders.stage(stage)
    assert found.store is not None
    base = f"sqlite:///{folder / 'base.db'}"
    stocked(base)
    url = f"sqlite:///{folder / 'made.db'}"
    consumer = names.group("orders", stage)
    prepare(url, found.store, consumer, base if stage == "inventory" else "")
    with Evidence(folder) as evidence, snapshot(live_url, consumer) as live:
        evidence.add(outputs(flow.broker, orders, stage))
        line = Timeline(folder, live)
        line.add(inputs(flow.broker, orders, stage))
        rerun = Rerun(orders, found, CODEC, settings, url, evidence=evidence)
        (*_, done) = rebuild(rerun, line, live, end=2**62)
        with snapshot(url, consumer) as made:
            return done, list(compare(live, made, found.store))


@pytest.mark.parametrize("stage", STAGES)
def test_the_topics_make_the_live_database_once_more(past: tuple[Simulation, Settings], stage: str, tmp_path: Path) -> None:
    done, differences = rebuilt(past, stage, past[1].store, tmp_path)
    assert (done.failures, differences) == ([], [])
    with sqlite3.connect(tmp_path / "made.db") as made, sqlite3.connect(past[1].directory / "live.db") as live:
        asked = "SELECT count(*), sum(length(outputs)) FROM inbox WHERE consumer = ?"
        mine = (names.group("orders", stage),)
        assert made.execute(asked, mine).fetchone() == live.execute(asked, mine).fetchone()  # it can take the live one's place
    made.close()
    live.close()


def test_a_row_that_somebody_changed_removed_or_added_is_named(past: tuple[Simulation, Settings], tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.db"
    with sqlite3.connect(past[1].directory / "live.db") as live, sqlite3.connect(wrong) as copy:
        live.backup(copy)
        copy.execute("UPDATE stock SET on_hand = on_hand + 3 WHERE sku = 'sku-1'")
        copy.execute("DELETE FROM orders WHERE order_id = 'o2'")
        copy.execute("INSERT INTO orders VALUES ('zz', 'reserved', 'c1', 'USD', 1, NULL, '', NULL)")
    live.close()
    copy.close()
    _, found = rebuilt(past, "inventory", f"sqlite:///{wrong}", tmp_path)
    assert [(one.kind, one.table, one.key) for one in sorted(found, key=lambda one: one.kind)] == [
        ("changed", "stock", ("sku-1",)),
        ("extra", "orders", ("o2",)),
        ("missing", "orders", ("zz",)),
    ]
    (was, now) = next(one for one in found if one.kind == "changed").columns["on_hand"]
    assert was - now == 3


def test_a_database_that_holds_anything_is_refused(past: tuple[Simulation, Settings], tmp_path: Path) -> None:
    full = tmp_path / "full.db"
    shutil.copy(past[1].directory / "live.db", full)
    store = orders.stage("inventory").store
    assert store is not None
    with pytest.raises(SetupError, match=r"not empty: there are rows in .*stock"):
        prepare(f"sqlite:///{full}", store, names.group("orders", "inventory"))
