"""The table of an order's moves: what the page says, what the data says and what the handlers do are one."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import create_engine

from streams.errors import Reject
from tests.unit.test_orders_inventory import accepted, inventory
from tests.unit.test_orders_stages import failed
from topologies.orders.events import OrderCancelled, PaymentCaptured, PaymentDue
from topologies.orders.inventory import cancel, expire, release, reserve, ship
from topologies.orders.progress import LAST, MOVES, State, What
from topologies.orders.stock import Stock, tables

PAGE: Final = (Path(__file__).parents[2] / "docs" / "order-states.md").read_text(encoding="utf-8")
HAPPENS: Final[dict[What, tuple[Any, Any]]] = {
    What.ACCEPTED: (reserve, accepted("o1", ("a", 1))),
    What.CAPTURED: (ship, PaymentCaptured("o1", "c1", "USD", 500, "pay_1")),
    What.FAILED: (release, failed("o1")),
    What.CANCELLED: (cancel, OrderCancelled("o1", "No.", "shop")),
    What.DUE: (expire, PaymentDue("o1")),
}
WAYS: Final[dict[State, list[What]]] = {
    State.NEW: [],
    State.WITHDRAWN: [What.CANCELLED],
    State.RESERVED: [What.ACCEPTED],
    State.SHORT: [What.ACCEPTED],
    State.SHIPPED: [What.ACCEPTED, What.CAPTURED],
    State.DECLINED: [What.ACCEPTED, What.FAILED],
    State.EXPIRED: [What.ACCEPTED, What.DUE],
    State.CANCELLED: [What.ACCEPTED, What.CANCELLED],
    State.REFUNDED: [What.ACCEPTED, What.CAPTURED, What.CANCELLED],
}


@pytest.fixture
def shelf() -> Iterator[Stock]:
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        tables.create_all(connection)
        yield Stock(connection)
    engine.dispose()


@pytest.mark.parametrize("before", State)
@pytest.mark.parametrize("what", What)
def test_a_handler_makes_the_move_that_the_table_has_or_opens_a_case(shelf: Stock, before: State, what: What) -> None:
    shelf.restock({"a": 0 if before is State.SHORT else 3})
    for each in WAYS[before]:
        handler, event = HAPPENS[each]
        handler(event, inventory(shelf))
    assert shelf.order("o1").state is before
    handler, event = HAPPENS[what]
    after = MOVES[before].get(what)
    if after is None:
        with pytest.raises(Reject, match=f"order o1 is {before.value}: that it is {what.value} now cannot be"):
            handler(event, inventory(shelf))
        after = (before,)
    else:
        said = handler(event, inventory(shelf))
        assert bool(said) == (shelf.order("o1").state not in (before, State.WITHDRAWN))
    assert shelf.order("o1").state is after[0]


def test_the_page_has_the_same_moves() -> None:
    header, *rows = table_below("## The moves")
    assert header == ["", *(what.value for what in What)]
    shown = {(state, what): cell for state, *cells in rows for what, cell in zip(header[1:], cells, strict=True)}
    assert shown == {(before.value, what.value): cell(before, MOVES[before].get(what)) for before in State for what in What}


def test_the_page_describes_every_state() -> None:
    assert [row[0] for row in table_below("# How an order goes")[1:]] == [state.value for state in State]
    named = re.search(r"Last states of an order that was accepted: (.*)\.", PAGE)
    assert named is not None
    assert set(named[1].split(", ")) == {state.value for state in LAST}


def cell(before: State, after: tuple[State, ...] | None) -> str:
    if after is None:
        return "case"
    return "" if after == (before,) else " or ".join(state.value for state in after)


def table_below(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without the line under its head."""
    lines = PAGE.partition(f"{heading}\n")[2].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|"))
    found = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return [found[0], *found[2:]]
