"""Every interleaving of one order's events: whoever is first, stock and money end in the same hands.

Not a sample: all of them. A topic keeps its order, and nothing else is kept; whatever may come next does, in its own branch.
The handlers are the real ones and their tables are real tables; only the machine around them is left out.
"""

from collections.abc import Coroutine, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec
import pytest
from sqlalchemy import create_engine, event, select
from sqlalchemy.engine import Connection

from streams.errors import Reject
from streams.record import Record
from streams.rows import Undo
from streams.stage import Context, Later
from topologies.orders import orders as flow
from topologies.orders.events import (
    Closing,
    OrderCancelled,
    OrderClosed,
    OrderLine,
    OrderSubmitted,
    StockRejected,
    StockReserved,
)
from topologies.orders.intake import judge
from topologies.orders.inventory import deadline
from topologies.orders.ports import Captured, Charge, Declined, Refund, psp
from topologies.orders.progress import LAST, Progress, State, orders
from topologies.orders.stock import Stock, levels, reservations, stock
from topologies.orders.stock import tables as stock_tables
from topologies.orders.submissions import Submissions, submissions
from topologies.orders.submissions import tables as submissions_tables

THERE: Final = 7
ORDER = OrderSubmitted("o1", "c1", "s1", datetime(2017, 1, 1, tzinfo=UTC), "USD", (OrderLine("a", "TEA", 2, 500),))
OTHER = msgspec.structs.replace(ORDER, currency="EUR")
CANCELLED = OrderCancelled("o1", "Found elsewhere.", "customer")
CLOSINGS: Final[dict[State, set[tuple[Closing, ...]]]] = {
    State.SHORT: {()},
    State.SHIPPED: {(Closing.CONFIRMED,)},
    State.DECLINED: {(Closing.DECLINED,)},
    State.EXPIRED: {(Closing.EXPIRED,)},
    State.CANCELLED: {(Closing.CANCELLED,)},
    State.REFUNDED: {(Closing.CONFIRMED, Closing.CANCELLED), (Closing.EXPIRED,), (Closing.CANCELLED,)},
}
HANDLERS: Final = {
    cls: (stage.name, handler.function)
    for stage in flow.stages
    if stage.name in ("intake", "inventory", "payment")
    for handler in stage.handlers
    for cls in handler.consumes
}


class World(NamedTuple):
    """What is not in the database: what may still come, what waits on topics, what the bank and the customer know."""

    inputs: tuple[Any, ...]
    topics: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    timers: tuple[Any, ...] = ()
    charged: tuple[str, ...] = ()
    refunded: tuple[str, ...] = ()
    told: tuple[Closing, ...] = ()
    cases: tuple[str, ...] = ()


class Bank:
    """A provider that declines, or not, and forgets nothing."""

    def __init__(self, world: World, declines: bool) -> None:
        self.charged, self.refunded = world.charged, world.refunded
        self._declines = declines

    async def capture(self, charge: Charge) -> Captured | Declined:
        if self._declines:
            return Declined("card-declined", "No.")
        self.charged = tuple(dict.fromkeys((*self.charged, charge.key)))
        return Captured(charge.key)

    async def refund(self, refund: Refund) -> None:
        assert refund.payment_id in self.charged
        assert refund.amount_minor == 500
        self.refunded = (*self.refunded, refund.payment_id)


class Explorer:
    """All ways from a world to its ends. `ends` are the states that the order ended in, with the cases that there were."""

    def __init__(self, connection: Connection, there: int) -> None:
        self._there = there
        self.ends: set[tuple[State, tuple[str, ...]]] = set()
        self.seen: set[Any] = set()
        self._connection = connection

    def explore(self, world: World) -> None:
        tables = (orders, levels, reservations, *submissions_tables.sorted_tables)
        key = (world, tuple(tuple(map(tuple, self._connection.execute(select(table)))) for table in tables))
        if key in self.seen:
            return
        self.seen.add(key)
        ended = True
        for after in self._steps(world):
            ended = False
            self.explore(after)
        if ended:
            self._check(world)

    def _steps(self, world: World) -> Iterator[World]:
        """Each next step, done; undone when the next one is asked for."""
        topics = dict(world.topics)
        for index, input_ in enumerate(world.inputs):
            rest = world.inputs[:index] + world.inputs[index + 1 :]
            yield send(world._replace(inputs=rest), [input_])
        for name, queue in topics.items():
            after = world._replace(topics=tuple(sorted((topics | {name: queue[1:]}).items())))
            for declines in (False, True) if isinstance(queue[0], StockReserved) else (False,):
                yield from self._handle(clean(after), queue[0], declines)
        for index, timer in enumerate(world.timers):
            rest = world.timers[:index] + world.timers[index + 1 :]
            yield from self._handle(world._replace(timers=rest), timer, declines=False)

    def _handle(self, world: World, what: Any, declines: bool) -> Iterator[World]:
        stage, function = HANDLERS[type(what)]
        savepoint = self._connection.begin_nested()
        bank, shelf, seen = Bank(world, declines), Stock(self._connection), Submissions(self._connection)
        resources = {psp: bank, stock: shelf, submissions: seen, deadline: 900.0}
        context = Context(Record("t", 0, 0, b"o1", b""), type(what).__name__, stage, 1, 0.0, resources)
        try:
            outputs = results(function(what, context))
        except Reject as error:
            yield world._replace(cases=(*world.cases, str(error)))
        else:
            shelf.flush()
            seen.flush()
            yield send(world._replace(charged=bank.charged, refunded=bank.refunded), outputs)
        savepoint.rollback()

    def _check(self, world: World) -> None:
        order = Progress(self._connection, Undo()).of("o1")
        assert order is not None
        self.ends.add((order.state, world.cases))
        assert order.state in LAST
        assert world.told in CLOSINGS[order.state]
        shipped = sum(row.quantity for row in self._connection.execute(select(reservations)) if row.shipped)
        ((_, on_hand, reserved),) = self._connection.execute(select(levels))
        assert reserved == 0
        assert on_hand + shipped == self._there, "on hand and shipped are what there was"
        assert shipped == (2 if order.state is State.SHIPPED else 0)
        assert len(set(world.refunded)) == len(world.refunded)
        assert len(world.charged) - len(world.refunded) == (1 if order.state is State.SHIPPED else 0)
        assert (order.state is State.REFUNDED) == bool(world.refunded)


def results(result: Any) -> list[Any]:
    """What a handler returns, whatever its kind."""
    if isinstance(result, Coroutine):
        with pytest.raises(StopIteration) as stopped:
            result.send(None)
        result = stopped.value.value
    if result is None:
        return []
    return [result] if isinstance(result, msgspec.Struct) else list(result)


def send(world: World, outputs: Iterable[Any]) -> World:
    """Put what was said where it is read."""
    topics, timers, told = dict(world.topics), world.timers, world.told
    for output in outputs:
        if isinstance(output, Later):
            timers = (*timers, output.event)
        elif isinstance(output, OrderClosed):
            told = (*told, output.closing)
        elif type(output) in HANDLERS:
            name = type(output).__name__
            topics[name] = (*topics.get(name, ()), output)
        else:
            assert isinstance(output, StockRejected) or type(output) in flow.by_topic.values()
    return clean(world._replace(topics=tuple(sorted(topics.items())), timers=timers, told=told))


def clean(world: World) -> World:
    return world._replace(topics=tuple((name, queue) for name, queue in world.topics if queue))


@pytest.fixture
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://")

    @event.listens_for(engine, "connect")
    def _(driver: Any, _: Any) -> None:
        driver.isolation_level = None

    @event.listens_for(engine, "begin")
    def _(begun: Connection) -> None:
        begun.exec_driver_sql("BEGIN")

    with engine.begin() as connection:
        for metadata in (stock_tables, submissions_tables):
            metadata.create_all(connection)
        yield connection
    engine.dispose()


def explored(connection: Connection, there: int, *inputs: Any) -> Explorer:
    shelf = Stock(connection)
    shelf.restock({"a": there})
    shelf.flush()
    explorer = Explorer(connection, there)
    explorer.explore(World(inputs))
    return explorer


def ends(*states: State) -> set[tuple[State, tuple[str, ...]]]:
    return {(state, ()) for state in states}


def test_an_order_that_is_sent_twice_and_cancelled_twice(connection: Connection) -> None:
    found = explored(connection, THERE, ORDER, ORDER, CANCELLED, CANCELLED)
    assert found.ends == ends(State.DECLINED, State.EXPIRED, State.CANCELLED, State.REFUNDED)
    assert len(found.seen) > 300, "so many different worlds are passed through"


def test_an_order_that_nobody_cancels(connection: Connection) -> None:
    found = explored(connection, THERE, ORDER, ORDER)
    assert found.ends == ends(State.SHIPPED, State.DECLINED, State.EXPIRED, State.REFUNDED)


def test_an_order_of_which_there_is_too_little(connection: Connection) -> None:
    assert explored(connection, 1, ORDER, ORDER, CANCELLED).ends == ends(State.SHORT, State.CANCELLED)


def test_an_order_that_comes_again_with_other_content_is_a_case_and_no_second_order(connection: Connection) -> None:
    found = explored(connection, THERE, ORDER, OTHER, ORDER, CANCELLED)
    cases = {cases for _, cases in found.ends}
    one = "order o1 was submitted before, with other content"
    assert cases == {(one,), (one, one)}, "one of them is first, the others are as it or not"


def test_an_order_that_an_older_intake_accepts_twice(connection: Connection) -> None:
    (accepted,) = results(judge(ORDER))
    found = explored(connection, THERE, accepted, accepted, CANCELLED)
    assert found.ends == ends(State.DECLINED, State.EXPIRED, State.CANCELLED, State.REFUNDED)
