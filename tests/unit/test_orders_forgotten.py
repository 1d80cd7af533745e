"""What inventory forgets: orders that ended long ago, and nothing that is still to come to an end or can be undone."""

import time
from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine, func, select
from sqlalchemy.engine import Connection

from topologies.orders.events import Demand
from topologies.orders.progress import LAST, Order, State, orders
from topologies.orders.stock import REMEMBERED, Stock, reservations, tables

NOW = time.time()
LONG_AGO = NOW - REMEMBERED - 86_400
LINE = (Demand("a", "A", 1),)


@pytest.fixture
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        tables.create_all(connection)
        yield connection
    engine.dispose()


def known(connection: Connection) -> set[str]:
    return {row.order_id for row in connection.execute(select(orders.c.order_id))}


def test_only_orders_that_have_ended_are_forgotten_and_only_when_they_are_old(connection: Connection) -> None:
    shelf = Stock(connection)
    for state in set(State) - {State.NEW}:
        shelf.set_order(f"{state.value}-old", Order(state), LONG_AGO)
        shelf.set_order(f"{state.value}-new", Order(state), NOW - REMEMBERED + 86_400)
    shelf.flush()
    before = known(connection)
    assert Stock(connection).forget(NOW - 3600) == len(LAST)  # an hour is not long enough for a refund
    assert before - known(connection) == {f"{state.value}-old" for state in LAST}
    assert Stock(connection).forget(LONG_AGO - 1) == 0


def test_what_a_forgotten_order_was_shipped_goes_with_it_and_the_level_stays(connection: Connection) -> None:
    shelf = Stock(connection)
    shelf.restock({"a": 3})
    for order_id, at in (("old", LONG_AGO), ("new", NOW)):
        shelf.reserve(order_id, LINE)
        shelf.ship(order_id)
        shelf.set_order(order_id, Order(State.SHIPPED), at)
    shelf.flush()
    Stock(connection).forget(NOW)
    assert [row.order_id for row in connection.execute(select(reservations))] == ["new"]
    assert Stock(connection).reserve("other", LINE) == ()
    assert connection.scalar(select(func.count()).select_from(orders)) == 1
