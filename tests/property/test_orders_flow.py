"""The whole order flow under whatever Hypothesis thinks of: many orders, sent twice, cancelled, slow, late, declined, killed.

The races of one order are gone through one by one elsewhere; here many go through the real machine at once, and the books are
held against what was sent.
"""

import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from streams import migrate
from streams.config import Settings
from streams.errors import Retry
from streams.memory.session import ManualClock
from streams.stage import Port
from streams.store import Inbox
from streams.testing import Simulation
from topologies.orders import orders as flow
from topologies.orders.events import (
    NotificationSent,
    OrderCancelled,
    OrderClosed,
    OrderLine,
    OrderSubmitted,
    PaymentCaptured,
    PaymentDisputed,
    PaymentRefunded,
    PaymentSettled,
)
from topologies.orders.inventory import deadline
from topologies.orders.ports import Captured, Charge, Declined, Letter, Refund, mail, psp
from topologies.orders.progress import LAST, State
from topologies.orders.stock import stock

PLACED = datetime(2017, 1, 1, tzinfo=UTC)
THERE: Final = 12
IDS: Final = [f"o{number}" for number in range(5)]
SETTLED: Final = datetime(2024, 5, 1, tzinfo=UTC)

ids = st.sampled_from(IDS)
moves = st.one_of(
    st.tuples(st.sampled_from(["submit", "cancel", "settle", "dispute"]), ids),
    st.tuples(st.just("wait"), st.sampled_from([0, 1, 25, 70])),
    st.tuples(st.sampled_from(["kill", "kill after", "abort"]), st.sampled_from(["intake", "inventory", "payment"])),
)
moods = st.lists(st.sampled_from(["good", "good", "slow", "declines"]), min_size=len(IDS), max_size=len(IDS))


def order(order_id: str) -> OrderSubmitted:
    """Each has amounts of its own."""
    number = int(order_id[1:])
    lines = (OrderLine("a", "TEA", 1 + number % 3, 100 + number), OrderLine("b", "CUP", 1, 10))
    return OrderSubmitted(order_id, "c1", "s1", PLACED, "USD", lines)


def total(order_id: str) -> int:
    return sum(line.amount_minor for line in order(order_id).lines)


class Bank:
    """A provider with a mood for each order; a slow one is later than the deadline."""

    def __init__(self, moods: list[str], clock: ManualClock) -> None:
        self.charged: dict[str, tuple[str, int]] = {}
        self.refunded: dict[str, tuple[str, int]] = {}
        self._moods = dict(zip(IDS, moods, strict=True))
        self._clock = clock
        self._first: dict[str, float] = {}

    async def capture(self, charge: Charge) -> Captured | Declined:
        mood = self._moods[charge.order_id]
        if mood == "declines":
            return Declined("card-declined", "No.")
        first = self._first.setdefault(charge.key, self._clock.now())
        if mood == "slow" and self._clock.now() < first + 60:
            raise Retry("busy", after=61)
        self.charged[f"pay {charge.key}"] = (charge.order_id, charge.amount_minor)
        return Captured(f"pay {charge.key}")

    async def refund(self, refund: Refund) -> None:
        self.refunded[refund.payment_id] = (refund.order_id, refund.amount_minor)


class Letters:
    def send(self, letter: Letter) -> None:
        """Nobody reads them here: what was told is on a topic."""


class Shop:
    """The flow at work; a context manager's worth of it is `play`."""

    def __init__(self, directory: str, moods: list[str]) -> None:
        self.url = f"sqlite:///{Path(directory) / 'store.db'}"
        migrate.upgrade(self.url, migrate.stores(flow))
        self.inbox = Inbox(self.url, "look", stock)
        with self.inbox.batch([], 0.0) as journal:
            journal.repository.restock({"a": THERE, "b": THERE})
        self.submitted: Counter[str] = Counter()
        self.cancelled: set[str] = set()
        self.bank = Bank(moods, ManualClock())
        ports: dict[Port[Any], Any] = {psp: self.bank, deadline: 50.0, mail: Letters()}
        self.flow = Simulation(flow, ports=ports, settings=Settings(store=self.url), session_timeout=20)
        self.bank._clock = self.flow.clock

    def act(self, what: str, about: Any) -> None:
        transaction = f"orders.{about}.a"
        match what:
            case "submit":
                self.submitted[about] += 1
                self.flow.produce(order(about))
            case "cancel":
                self.cancelled.add(about)
                self.flow.produce(OrderCancelled(about, "No.", "customer"))
            case "settle" | "dispute":  # the provider's webhooks: of payments that there are, late and in any order
                event = PaymentSettled if what == "settle" else PaymentDisputed
                for paid in self.flow.outputs(PaymentCaptured):
                    if paid.order_id == about:
                        self.flow.produce(event(about, paid.payment_id, "USD", paid.total_minor, SETTLED))
            case "wait":
                self.rest(about)
            case "kill" | "kill after":
                self.flow.broker.crash_next(transaction, committed=what == "kill after")
            case "abort":
                self.flow.broker.abort_next(transaction)

    def rest(self, seconds: float) -> None:
        self.flow.run(seconds)
        for stage in {stage.name for stage in flow.stages} - {worker.stage.name for worker in self.flow.workers}:
            self.flow.start(stage)

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        with self.inbox.batch([], 0.0) as journal:
            return [tuple(row) for row in journal.repository._connection.exec_driver_sql(f"SELECT * FROM {table}")]  # noqa: S608


@settings(max_examples=15, deadline=None)
@given(st.lists(moves, min_size=3, max_size=14), moods)
def test_stock_and_money_are_in_the_right_hands(story: list[tuple[str, Any]], moods: list[str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        shop = Shop(directory, moods)
        try:
            for what, about in story:
                shop.act(what, about)
            for _ in range(12):
                shop.rest(30)
            check(shop)
        finally:
            shop.flow.close()
            shop.inbox.close()


def check(shop: Shop) -> None:
    states = {row[0]: State(row[1]) for row in shop.rows("orders")}
    assert all(states[order_id] in LAST for order_id in shop.submitted)
    assert all(states[order_id] is State.WITHDRAWN for order_id in states.keys() - shop.submitted.keys())
    assert not any(states[order_id] is State.SHIPPED for order_id in shop.cancelled)
    shipped = {order_id for order_id, state in states.items() if state is State.SHIPPED}

    gone: Counter[str] = Counter()
    for order_id in shipped:
        for line in order(order_id).lines:
            gone[line.sku] += line.quantity
    assert {row[0]: tuple(row[1:]) for row in shop.rows("stock")} == {sku: (THERE - gone[sku], 0) for sku in "ab"}

    assert Counter(order_id for order_id, _ in shop.bank.charged.values()).total() == len(
        {order_id for order_id, _ in shop.bank.charged.values()}
    ), "nobody was charged twice"
    assert all(shop.bank.charged[payment_id] == back for payment_id, back in shop.bank.refunded.items())
    kept = sum(amount for _, amount in shop.bank.charged.values()) - sum(amount for _, amount in shop.bank.refunded.values())
    assert kept == sum(map(total, shipped))
    assert {paid.payment_id for paid in shop.flow.outputs(PaymentRefunded)} == shop.bank.refunded.keys()

    closed = Counter(event.order_id for event in shop.flow.outputs(OrderClosed))
    told = Counter(event.order_id for event in shop.flow.outputs(NotificationSent))
    for order_id in shop.submitted:
        assert closed[order_id] == told[order_id] - (states[order_id] is State.SHORT)
        assert 1 <= told[order_id] <= 2
    repeats = {row[0]: row[3] for row in shop.rows("submissions")}
    assert repeats == {order_id: count - 1 for order_id, count in shop.submitted.items()}
    assert {case.stage for case in shop.flow.cases()} <= {"settlement"}, "settled twice: told to people, and nothing else"
