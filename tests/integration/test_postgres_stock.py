"""Stock that two copies of inventory sell from at once, on PostgreSQL: never more than there is, and nobody crashes."""

import multiprocessing
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from streams import migrate
from streams.config import Settings
from streams.errors import Conflict
from streams.record import Record
from streams.store import Inbox
from streams.testing import Simulation
from tests.support.postgres import Meanwhile, raw, wait_until, waiting
from topologies.orders import orders
from topologies.orders.events import Demand, OrderAccepted, PaymentCaptured, PaymentFailed, StockRejected, StockReserved
from topologies.orders.stock import stock

PLACED = datetime(2017, 1, 1, tzinfo=UTC)


def accepted(order_id: str, *demand: tuple[str, int]) -> OrderAccepted:
    lines = tuple(Demand(sku, f"NAME {sku}", quantity) for sku, quantity in demand)
    return OrderAccepted(order_id, "c1", "s1", PLACED, "USD", 500, lines)


def put_in_stock(url: str, levels: dict[str, int]) -> None:
    migrate.upgrade(url, [stock])
    inbox = Inbox(url, "orders.inventory", stock)
    with inbox.batch([], 0.0) as journal:
        journal.repository.restock(levels)
    inbox.close()


def sell(url: str, batches: Sequence[Sequence[OrderAccepted]], partition: int, ready: Any, told: Any) -> None:
    """One copy of inventory: its batches, one after the other, as the engine runs them."""
    inbox = Inbox(url, "orders.inventory", stock)
    inbox.open()
    ready.wait()
    sold, conflicts = 0, 0
    for batch in batches:
        while True:
            reserved = 0
            try:
                with inbox.batch([order.order_id for order in batch], 0.0, [partition]) as journal:
                    journal.expect(lambda batch=batch: batch)  # type: ignore[misc]  # bound at once
                    for order in batch:
                        with journal.savepoint():
                            reserved += not journal.repository.reserve(order.order_id, order.demand)
                        journal.record(order.order_id, (), Record("orders.accepted", partition, 0, None, None))
            except Conflict:
                conflicts += 1
                continue
            break
        sold += reserved
    told.put((sold, conflicts))
    inbox.close()


def race(url: str, *copies: Sequence[Sequence[OrderAccepted]]) -> tuple[list[int], int]:
    """All copies at once. Returns what each sold, and how often a batch had to be run again."""
    spawn = multiprocessing.get_context("spawn")
    ready, told = spawn.Barrier(len(copies)), spawn.Queue()
    workers = [
        spawn.Process(target=sell, args=(url, batches, partition, ready, told)) for partition, batches in enumerate(copies)
    ]
    for worker in workers:
        worker.start()
    results = [told.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * len(copies)
    return [sold for sold, _ in results], sum(conflicts for _, conflicts in results)


def books(connection: psycopg.Connection[Any]) -> dict[str, tuple[int, int]]:
    return {sku: (on_hand, reserved) for sku, on_hand, reserved in connection.execute("SELECT * FROM stock")}


def test_two_copies_that_sell_the_last_one_at_once_sell_it_once(postgres_url: str, other: psycopg.Connection[Any]) -> None:
    skus = [f"sku-{number:03}" for number in range(200)]
    put_in_stock(postgres_url, dict.fromkeys(skus, 1))
    one = [[accepted(f"one-{sku}", (sku, 1))] for sku in skus]
    two = [[accepted(f"two-{sku}", (sku, 1))] for sku in skus]
    sold, _ = race(postgres_url, one, two)
    assert sum(sold) == 200
    assert set(books(other).values()) == {(1, 1)}
    assert other.execute("SELECT count(*), count(DISTINCT sku) FROM reservations").fetchone() == (200, 200)


def test_skus_are_locked_in_their_order_so_that_nobody_waits_in_a_circle(
    postgres_url: str, other: psycopg.Connection[Any]
) -> None:
    put_in_stock(postgres_url, {"a": 5, "_": 5, "B": 5})  # by their bytes: B, _, a; no dictionary sorts like that
    inbox = Inbox(postgres_url, "orders.inventory", stock)

    def copy() -> None:
        with inbox.batch(["o1"], 0.0, [0]) as journal:
            journal.expect(lambda: [accepted("o1", ("a", 1), ("_", 1)), accepted("o2", ("B", 1))])

    with raw(postgres_url) as stranger, stranger.transaction():
        stranger.execute("SELECT FROM stock WHERE sku = '_' FOR UPDATE")
        meanwhile = Meanwhile(copy)
        wait_until(lambda: waiting(other))
        assert other.execute("SELECT sku FROM stock FOR UPDATE SKIP LOCKED").fetchall() == [("a",)]
    assert meanwhile.result() is None
    inbox.close()


def test_two_thousand_orders_on_one_sku_are_right(postgres_url: str, other: psycopg.Connection[Any]) -> None:
    put_in_stock(postgres_url, {"hot": 1500})
    hot: Callable[[str], list[list[OrderAccepted]]] = lambda name: [  # noqa: E731  # two of a kind
        [accepted(f"{name}-{batch}-{number}", ("hot", 1)) for number in range(50)] for batch in range(20)
    ]
    sold, conflicts = race(postgres_url, hot("one"), hot("two"))
    assert (sum(sold), conflicts) == (1500, 0)
    assert books(other) == {"hot": (1500, 1500)}
    assert other.execute("SELECT sum(quantity) FROM reservations").fetchone() == (1500,)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_flow_ends_in_the_same_books_on_both_databases(request: pytest.FixtureRequest, tmp_path: Any, kind: str) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}" if kind == "sqlite" else str(request.getfixturevalue("postgres_url"))
    put_in_stock(url, {"a": 10, "b": 5})
    with Simulation(orders, stages=["inventory"], settings=Settings(store=url)) as flow:
        for order in (accepted("o1", ("a", 4), ("b", 5)), accepted("o2", ("a", 6)), accepted("o3", ("b", 1))):
            flow.produce(order)
        flow.produce(accepted("o4", ("a", 1), ("unknown", 1)))
        flow.run()
        flow.produce(PaymentCaptured("o1", "c1", "USD", 500, "pay_1"))
        flow.produce(PaymentFailed("o2", "c1", "USD", 500, "card-declined", "No."))
        flow.produce(PaymentCaptured("o1", "c1", "USD", 500, "pay_1"))
        flow.run()
        ends = Counter(type(event).__name__ for cls in (StockReserved, StockRejected) for event in flow.outputs(cls))
        assert ends == {"StockReserved": 2, "StockRejected": 2}
    inbox = Inbox(url, "look", stock)
    with inbox.batch([], 0.0) as journal:
        rows = journal.repository._connection.exec_driver_sql("SELECT sku, on_hand, reserved FROM stock ORDER BY sku").all()
    inbox.close()
    assert [tuple(row) for row in rows] == [("a", 6, 0), ("b", 0, 0)]
