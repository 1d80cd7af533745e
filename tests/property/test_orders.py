"""Laws of the order flow: no order crashes intake, and no history of orders oversells the stock."""

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from streams import migrate
from streams.store import Inbox
from topologies.orders.events import Demand, OrderAccepted, OrderLine, OrderRejected, OrderSubmitted
from topologies.orders.intake import judge
from topologies.orders.stock import levels, reservations, stock

LONG = 2**63
longs = st.one_of(st.integers(-2, 5), st.integers(-LONG, LONG - 1), st.sampled_from([LONG - 1, -LONG]))
texts = st.one_of(st.sampled_from(["", " ", "a", "b", "\x00"]), st.text(max_size=20))
orders = st.builds(
    OrderSubmitted,
    order_id=texts,
    customer_id=texts,
    store_id=texts,
    placed_at=st.datetimes(timezones=st.just(UTC)),
    currency=st.one_of(st.sampled_from(["USD", "EUR", "usd"]), texts),
    lines=st.lists(st.builds(OrderLine, sku=texts, name=texts, quantity=longs, amount_minor=longs), max_size=8).map(tuple),
)
# Most random orders have more than one flaw; these have none but perhaps in their sums.
sound = st.builds(
    OrderSubmitted,
    order_id=st.just("o"),
    customer_id=st.just("c"),
    store_id=texts,
    placed_at=st.just(datetime(2017, 1, 1, tzinfo=UTC)),
    currency=st.just("JPY"),
    lines=st.lists(
        st.builds(
            OrderLine,
            sku=st.sampled_from("abc"),
            name=texts,
            quantity=st.integers(1, LONG - 1),
            amount_minor=st.integers(1, LONG - 1),
        ),
        min_size=1,
        max_size=8,
    ).map(tuple),
)


@given(st.one_of(orders, sound))
def test_any_order_is_accepted_or_rejected(order: OrderSubmitted) -> None:
    verdict = judge(order)
    assert verdict.order_id == order.order_id
    if isinstance(verdict, OrderRejected):
        assert verdict.code
        assert verdict.reason.isprintable()
        return
    assert isinstance(verdict, OrderAccepted)
    assert verdict.total_minor == sum(line.amount_minor for line in order.lines)
    assert 0 < verdict.total_minor < LONG
    assert all(0 < line.quantity < LONG and line.sku for line in verdict.demand)
    assert len({line.sku for line in verdict.demand}) == len(verdict.demand)
    assert sum(line.quantity for line in verdict.demand) == sum(line.quantity for line in order.lines)


SKUS = "abc"
demands = st.dictionaries(st.sampled_from([*SKUS, "unknown"]), st.integers(1, 12), min_size=1, max_size=4)
order_ids = st.sampled_from([f"o{number}" for number in range(6)])


class StockHistory(RuleBasedStateMachine):
    """Orders come, are undone, fail half-way and go, against a plain dictionary that says what must be there."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        url = f"sqlite:///{Path(self.directory.name) / 'store.db'}"
        migrate.upgrade(url, [stock])
        self.inbox = Inbox(url, "orders.inventory", stock)
        self.inbox.open()
        self.on_hand = dict.fromkeys(SKUS, 20)
        self.held: dict[str, dict[str, int]] = {}
        self.shipped: dict[str, dict[str, int]] = {}
        with self.inbox.batch([], 0.0) as journal:
            journal.repository.restock(self.on_hand)

    def teardown(self) -> None:
        self.inbox.close()
        self.directory.cleanup()

    def free(self, sku: str) -> int:
        return self.on_hand.get(sku, 0) - sum(held.get(sku, 0) for held in self.held.values())

    @rule(order_id=order_ids, demand=demands, fails=st.booleans())
    def reserve(self, order_id: str, demand: dict[str, int], fails: bool) -> None:
        short = {sku for sku, quantity in demand.items() if quantity > self.free(sku)}
        again = order_id in {*self.held, *self.shipped}
        with self.inbox.batch([], 0.0) as journal:
            lines = tuple(Demand(sku, "N", quantity) for sku, quantity in demand.items())
            try:
                with journal.savepoint():
                    shortages = journal.repository.reserve(order_id, lines)
                    assert {shortage.sku for shortage in shortages} == short
                    if fails:
                        raise InterruptedError
            except InterruptedError:
                assert not again
                return
            except ValueError:
                assert again  # reserved twice without asking `order` first
                return
        if not short:
            self.held[order_id] = demand

    @rule(order_id=order_ids)
    def release(self, order_id: str) -> None:
        with self.inbox.batch([], 0.0) as journal:
            released = journal.repository.release(order_id)
        assert {line.sku: line.quantity for line in released} == self.held.pop(order_id, {})

    @rule(order_id=order_ids)
    def ship(self, order_id: str) -> None:
        with self.inbox.batch([], 0.0) as journal:
            gone = {line.sku: line.quantity for line in journal.repository.ship(order_id)}
        assert gone == self.held.pop(order_id, {})
        for sku, quantity in gone.items():
            self.on_hand[sku] -= quantity
            self.shipped.setdefault(order_id, {})[sku] = quantity

    @rule(order_id=order_ids)
    def take_back(self, order_id: str) -> None:
        with self.inbox.batch([], 0.0) as journal:
            back = {line.sku: line.quantity for line in journal.repository.take_back(order_id)}
        assert back == self.shipped.pop(order_id, {})
        for sku, quantity in back.items():
            self.on_hand[sku] += quantity

    @precondition(lambda self: self.held)
    @rule(by=st.integers(1, 30), sku=st.sampled_from(SKUS))
    def oversell(self, by: int, sku: str) -> None:
        """The table's own check, for whoever writes past the repository."""
        over = self.on_hand[sku] - self.free(sku) + by
        if over <= self.on_hand[sku]:
            return
        with pytest.raises(IntegrityError, match="stock_never_oversold"), self.inbox.batch([], 0.0) as journal:
            journal.repository._connection.execute(levels.update().where(levels.c.sku == sku).values(reserved=over))

    @invariant()
    def adds_up(self) -> None:
        with self.inbox.batch([], 0.0) as journal:
            run = journal.repository._connection.execute
            rows = {sku: (on_hand, reserved) for sku, on_hand, reserved in run(select(levels))}
            rows_of = {(row.order_id, row.sku, row.shipped): row.quantity for row in run(select(reservations))}
        assert rows == {sku: (count, count - self.free(sku)) for sku, count in self.on_hand.items()}
        assert rows_of == {
            (order_id, sku, shipped): count
            for shipped, orders in ((False, self.held), (True, self.shipped))
            for order_id, demand in orders.items()
            for sku, count in demand.items()
        }
        for sku, count in self.on_hand.items():
            assert count + sum(gone.get(sku, 0) for gone in self.shipped.values()) == 20, "on hand + sold is what there was"


TestStockHistory = StockHistory.TestCase
TestStockHistory.settings = settings(max_examples=60, stateful_step_count=15, deadline=None)
