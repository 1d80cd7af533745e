"""A process of the order flow dies at its n-th commit, wherever that finds it: the books are those of a run without a death.

Four points of each transaction: before the database's commit, between it and Kafka's (and, at payment, after the provider has
acted and before its answer is stored), and after Kafka's.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any, Final

import pytest

from streams import database, migrate
from streams.config import Settings
from streams.errors import Retry
from streams.memory.broker import MemoryProducer
from streams.memory.session import Crashed, ManualClock
from streams.stage import Port
from streams.store import Inbox, Journal
from streams.testing import Simulation
from topologies.orders import orders as flow
from topologies.orders.events import OrderCancelled, OrderLine, OrderSubmitted
from topologies.orders.inventory import deadline
from topologies.orders.ports import Captured, Charge, Declined, Refund, psp
from topologies.orders.stock import stock

STAGES: Final = ("intake", "inventory", "payment")
TOPICS: Final = (
    *("orders.accepted", "inventory.reserved", "payments.captured", "payments.failed", "inventory.released"),
    *("orders.closed", "payments.refund-requested", "payments.refunded"),
)
TABLES: Final = ("orders", "stock", "reservations", "submissions")
ORDER: Final = OrderSubmitted("o1", "c1", "s1", datetime(2017, 1, 1, tzinfo=UTC), "USD", (OrderLine("a", "TEA", 2, 500),))
CANCELLED: Final = OrderCancelled("o1", "Found elsewhere.", "customer")
POINTS: Final = ("before the database", "between the two", "after Kafka")


class Bank:
    """A provider that knows a charge and a refund by their keys. A slow one takes its time over a charge."""

    def __init__(self, mood: str) -> None:
        self.charged: dict[str, int] = {}
        self.refunded: dict[str, int] = {}
        self.clock = ManualClock()
        self._mood = mood
        self._slow_until = self.clock.now() + 1000

    async def capture(self, charge: Charge) -> Captured | Declined:
        if self._mood == "declines":
            return Declined("card-declined", "No.")
        if self._mood == "slow" and self.clock.now() < self._slow_until:
            raise Retry("busy", after=1300)
        self.charged[f"pay {charge.key}"] = charge.amount_minor
        return Captured(f"pay {charge.key}")

    async def refund(self, refund: Refund) -> None:
        assert self.charged[refund.payment_id] == refund.amount_minor
        self.refunded[refund.key] = refund.amount_minor


STORIES: Final[dict[str, tuple[str, tuple[Any, ...]]]] = {
    "paid": ("good", (ORDER, ORDER)),
    "declined": ("declines", (ORDER,)),
    "cancelled before it came": ("good", (CANCELLED, ORDER)),
    "cancelled when it was paid": ("good", (ORDER, CANCELLED)),
    "expired, then paid": ("slow", (ORDER,)),
}


# Payment has no database, and intake does the same whatever comes after it.
DEATHS: Final = [
    (story, stage, point)
    for story, stage, point in product(STORIES, STAGES, POINTS)
    if (stage, point) != ("payment", POINTS[0]) and (stage != "intake" or story == "paid")
]


class Death:
    """Kills a stage's process at one of its commits. `came`: it was the n-th, and there were that many."""

    def __init__(self, stage: str, point: str, at: int) -> None:
        self.came = False
        self._id = f"orders.{stage}.a"
        self._consumer = f"orders.{stage}"
        self._point = point
        self._left = at

    @contextmanager
    def about(self) -> Iterator[None]:
        commit, save = MemoryProducer.commit, Journal.save

        def kafka(producer: MemoryProducer) -> None:
            ours = producer._id == self._id and self._point != POINTS[0]
            if ours and self._point == POINTS[1] and self._due():
                raise Crashed
            commit(producer)
            if ours and self._point == POINTS[2] and self._due():
                raise Crashed

        def database(journal: Journal, now: float) -> None:
            if journal._consumer == self._consumer and self._point == POINTS[0] and self._due():
                raise Crashed
            save(journal, now)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(MemoryProducer, "commit", kafka)
            patch.setattr(Journal, "save", database)
            yield

    def _due(self) -> bool:
        self._left -= 1
        self.came |= self._left == 0
        return self._left == 0


def tell(story: str, directory: Path) -> dict[str, Any]:
    """Run a story to its end, starting again whoever has died, and return the books."""
    mood, events = STORIES[story]
    bank = Bank(mood)
    url = f"sqlite:///{directory / 'store.db'}"
    migrate.upgrade(url, migrate.stores(flow))
    inbox = Inbox(url, "seed", stock)
    with inbox.batch([], 0.0) as journal:
        journal.repository.restock({"a": 7})
    ports: dict[Port[Any], Any] = {psp: bank, deadline: 900.0}
    with Simulation(flow, stages=STAGES, ports=ports, settings=Settings(store=url), session_timeout=120) as running:
        bank.clock = running.clock
        for event in events:  # each finds the last one's work done, so that a death changes nothing but itself
            running.produce(event)
            settle(running, 1)
        for _ in range(4):
            settle(running, 500)
        found: dict[str, Any] = {topic: [record.value for record in running.broker.read(topic)] for topic in TOPICS}
        assert running.cases() == []
        assert all(running.parked(stage) == [] for stage in STAGES)
    with inbox.batch([], 0.0) as journal:
        run = journal.repository._connection.exec_driver_sql
        found |= {table: sorted(map(tuple, run(f"SELECT * FROM {table}"))) for table in TABLES}  # noqa: S608  # our own names
    inbox.close()
    found["submissions"] = [(order_id, content, repeats) for order_id, content, _, repeats in found["submissions"]]
    found["orders"] = [row[:-1] for row in found["orders"]]  # but for when they last moved
    return found | {"charged": bank.charged, "refunded": bank.refunded}


def settle(running: Simulation, seconds: float) -> None:
    """Let time pass, start whoever is dead, and let the dead one's place become free."""
    running.run(seconds)
    if dead := set(STAGES) - {worker.stage.name for worker in running.workers}:
        running.start(*dead)
        running.run(125)


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """The books of a story without a death."""
    known: dict[str, dict[str, Any]] = {}

    def of(story: str) -> dict[str, Any]:
        if story not in known:
            known[story] = tell(story, tmp_path_factory.mktemp("books"))
        return known[story]

    return of


@pytest.mark.parametrize(("story", "stage", "point"), DEATHS)
def test_the_books_are_the_same(
    books: Callable[[str], dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, story: str, stage: str, point: str
) -> None:
    relaxed = database._prepare

    def prepare(driver: Any, record: Any) -> None:
        relaxed(driver, record)
        driver.execute("PRAGMA synchronous=OFF")  # here processes die, and no computer

    monkeypatch.setattr(database, "_prepare", prepare)
    wanted = books(story)
    deaths = 0
    for at in range(1, 20):
        directory = tmp_path / str(at)
        directory.mkdir()
        death = Death(stage, point, at)
        with death.about():
            assert tell(story, directory) == wanted
        if not death.came:
            break
        deaths += 1
    assert deaths >= 1 or (stage == "payment" and story == "cancelled before it came")


def test_the_stories_end_as_they_are_called(books: Callable[[str], dict[str, Any]]) -> None:
    assert {story: books(story)["orders"][0][1] for story in STORIES} == {
        "paid": "shipped",
        "declined": "declined",
        "cancelled before it came": "cancelled",
        "cancelled when it was paid": "refunded",
        "expired, then paid": "refunded",
    }
    assert {story: (len(books(story)["charged"]), len(books(story)["refunded"])) for story in STORIES} == {
        "paid": (1, 0),
        "declined": (0, 0),
        "cancelled before it came": (0, 0),
        "cancelled when it was paid": (1, 1),
        "expired, then paid": (1, 1),
    }
    on_hand = {story: books(story)["stock"] for story in STORIES}
    assert on_hand == {story: [("a", 5 if story == "paid" else 7, 0)] for story in STORIES}
    assert books("paid")["submissions"][0][2] == 1, "the second one was counted"
