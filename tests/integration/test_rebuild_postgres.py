"""Rebuild with a live database on PostgreSQL: looked at as it is at one moment, compared across kinds of databases."""

from pathlib import Path

import psycopg
import pytest

from streams import names
from streams.ops.rebuild import compare, prepare, rebuild
from streams.ops.replay.evidence import Evidence
from streams.ops.replay.rerun import Rerun, Timeline
from streams.snapshot import snapshot
from tests.support.history import CODEC, history, inputs, outputs, stocked
from topologies.orders import orders
from topologies.orders.stock import stock

CONSUMER = names.group("orders", "inventory")


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_topics_make_the_database_of_postgresql_once_more(
    postgres_url: str, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    made_url = f"sqlite:///{tmp_path / 'made.db'}"
    if kind == "postgresql":
        made_url = request.getfixturevalue("postgres").create(f"made_{tmp_path.name.lower()[-20:]}")
    stocked(base := f"sqlite:///{tmp_path / 'base.db'}")
    prepare(made_url, stock, CONSUMER, base)
    with history(tmp_path, store=postgres_url) as (flow, settings), Evidence(tmp_path) as evidence:
        evidence.add(outputs(flow.broker, orders, "inventory"))
        with snapshot(postgres_url, CONSUMER) as live:
            line = Timeline(tmp_path, live)
            line.add(inputs(flow.broker, orders, "inventory"))
            rerun = Rerun(orders, orders.stage("inventory"), CODEC, settings, made_url, evidence=evidence)
            (*_, done) = rebuild(rerun, line, live, end=2**62)
            with snapshot(made_url, CONSUMER) as made:
                assert (done.failures, list(compare(live, made, stock))) == ([], [])
    assert done.events > 40


def test_a_look_at_postgresql_is_of_one_moment_and_writes_nothing(
    postgres_url: str, other: "psycopg.Connection[object]", tmp_path: Path
) -> None:
    stocked(postgres_url)
    stocked(twin := f"sqlite:///{tmp_path / 'twin.db'}")
    with snapshot(postgres_url, CONSUMER) as live, snapshot(twin, CONSUMER) as made:
        other.execute("UPDATE stock SET on_hand = 31 WHERE sku = 'Z'")
        assert list(compare(live, made, stock)) == []
    with snapshot(postgres_url, CONSUMER) as live, snapshot(twin, CONSUMER) as made:
        (difference,) = compare(live, made, stock)
    assert (difference.key, difference.columns) == (("Z",), {"on_hand": (31, 30)})
