"""Subscribers: who is told of orders, where, and signed with which secrets.

The one rule: a secret leaves this table only to sign; it is in no event, no log and no error. It is plain here: docs/adr/0014.

The stage `notification` asks who is to be told, within its batch; `delivery` asks for one subscriber when it sends to it, so
that an address or a secret that was changed is changed for what is on its way too.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
from sqlalchemy import Column, Index, MetaData, String, Table, bindparam, insert, select, update
from sqlalchemy.engine import Connection, Engine

from streams import database, migrate
from streams.config import Settings
from streams.rows import Among
from streams.stage import Past, Port, Store
from topologies.orders.events import DeliveryRequested, readable

_FRESH: Final = 5.0  # seconds that `Directory` remembers a subscriber

tables = MetaData()
subscriptions = Table(
    "subscribers",
    tables,
    Column("subscriber_id", String, primary_key=True),
    Column("customer_id", String),  # whose orders; none: everybody's. No id means that, since ids come from outside.
    Column("url", String, nullable=False),  # https://… or mailto:…
    Column("secrets", String, nullable=False),  # one, or the new one and the old, separated by a space; for mailto none
    Column("ended", String),  # why nothing is sent any more
    Index("subscribers_by_customer", "customer_id"),
)
_this = subscriptions.c.subscriber_id == bindparam("this")
_active = subscriptions.c.ended.is_(None)
_whom = select(subscriptions.c.subscriber_id, subscriptions.c.customer_id).order_by(subscriptions.c.subscriber_id)
_theirs = Among(subscriptions.c.customer_id, lambda these: _whom.where(_active, these))
_everybodys = _whom.where(_active, subscriptions.c.customer_id.is_(None))
_find = select(subscriptions).where(_this)
_all = select(subscriptions).order_by(subscriptions.c.customer_id, subscriptions.c.subscriber_id)
_add = insert(subscriptions)
_change = update(subscriptions).where(_this)


class Subscriber(msgspec.Struct, frozen=True):
    """Who is told. `customer_id` is None for whoever is told of all orders; of `secrets` the new one is first."""

    subscriber_id: str
    customer_id: str | None
    url: str
    secrets: tuple[str, ...]
    ended: str | None = None


class Subscribers:
    """The table within one database transaction. A batch's customers are looked up at once (see `streams.store.Bulk`)."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._of: dict[str, list[str]] = {}
        self._every: list[str] | None = None

    def expect(self, events: Sequence[Any]) -> None:
        """Look up whom these events concern."""
        self._look_up(list({event.customer_id for event in events}))

    @contextmanager
    def event(self) -> Iterator[None]:
        """Nothing is changed, so there is nothing to undo."""
        yield

    def flush(self) -> None:
        """Nothing is changed."""

    def of(self, customer_id: str) -> tuple[Sequence[str], Sequence[str]]:
        """Ids of the customer's own subscribers and of those that are told of all orders, each ascending."""
        if customer_id not in self._of:
            self._look_up([customer_id])
        if self._every is None:
            self._every = [row.subscriber_id for row in self._connection.execute(_everybodys)]
        return self._of[customer_id], self._every

    def all(self) -> list[Subscriber]:
        """Everybody, those that have ended too."""
        return [_subscriber(row) for row in self._connection.execute(_all)]

    def find(self, subscriber_id: str) -> Subscriber | None:
        """One of them."""
        row = self._connection.execute(_find, {"this": subscriber_id}).first()
        return _subscriber(row) if row is not None else None

    def add(self, subscriber: Subscriber) -> None:
        """A new one."""
        self._connection.execute(_add, _row(subscriber))

    def change(self, subscriber: Subscriber) -> None:
        """What is in the table under this id becomes this."""
        self._connection.execute(_change.values(**_row(subscriber)), {"this": subscriber.subscriber_id})

    def _look_up(self, customers: Sequence[str]) -> None:
        self._of |= {customer: [] for customer in customers}
        customers = [customer for customer in customers if readable(customer)]  # nobody subscribes as any other
        for subscriber_id, customer_id in _theirs.rows(self._connection, customers):
            self._of[customer_id].append(subscriber_id)


class RecordedSubscribers:
    """Who was told of one event, told by what came of it."""

    def __init__(self, past: Past) -> None:
        told = [output for output in past.outputs if isinstance(output, DeliveryRequested)]
        self._of = [one.subscriber_id for one in told if one.lead], [one.subscriber_id for one in told if not one.lead]

    def of(self, customer_id: str) -> tuple[Sequence[str], Sequence[str]]:  # noqa: ARG002  # as `Subscribers`
        """The lead and all others: which of these are the customer's own makes no difference to what they are sent."""
        return self._of


class Book(Protocol):
    """One subscriber at a time, for whoever sends."""

    async def find(self, subscriber_id: str) -> Subscriber | None:
        """The subscriber as it is now or was some seconds ago; None for one that there is not, or that has ended."""
        ...

    async def end(self, subscriber_id: str, why: str) -> None:
        """Send it nothing any more."""
        ...


class Directory:
    """See `Book`. Raises `Unavailable` when the database is away."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._turn = asyncio.Lock()  # the engine has one connection
        self._known: dict[str, tuple[float, Subscriber | None]] = {}

    async def find(self, subscriber_id: str) -> Subscriber | None:
        """See `Book`."""
        async with self._turn:
            asked, found = self._known.get(subscriber_id, (0.0, None))
            if not asked or self._clock() - asked > _FRESH:
                found = await asyncio.to_thread(self._find, subscriber_id)
                self._known[subscriber_id] = (self._clock(), found)
        return found if found is not None and found.ended is None else None

    async def end(self, subscriber_id: str, why: str) -> None:
        """See `Book`."""
        async with self._turn:
            await asyncio.to_thread(self._end, subscriber_id, why)
            self._known.pop(subscriber_id, None)

    def _find(self, subscriber_id: str) -> Subscriber | None:
        with database.available(), self._engine.begin() as connection:
            return Subscribers(connection).find(subscriber_id)

    def _end(self, subscriber_id: str, why: str) -> None:
        with database.available(), self._engine.begin() as connection:
            found = Subscribers(connection).find(subscriber_id)
            if found is not None and found.ended is None:
                Subscribers(connection).change(msgspec.structs.replace(found, ended=why))


def _subscriber(row: Any) -> Subscriber:
    return Subscriber(row.subscriber_id, row.customer_id, row.url, tuple(row.secrets.split()), row.ended)


def _row(subscriber: Subscriber) -> dict[str, Any]:
    return msgspec.structs.asdict(subscriber) | {"secrets": " ".join(subscriber.secrets)}


@contextmanager
def opened(url: str) -> Iterator[Engine]:
    """The database with the table in it. Raises `SetupError` for one that cannot be used, or is behind."""
    engine = database.connect(url)
    try:
        with database.opening(engine) as connection:
            migrate.check(connection, [subscribers])
        yield engine
    finally:
        engine.dispose()


@asynccontextmanager
async def _directory(settings: Settings) -> AsyncIterator[Book]:
    with opened(settings.store) as engine:
        yield Directory(engine)


subscribers: Store[Subscribers] = Store(
    "subscribers",
    tables=tables,
    migrations=Path(__file__).parent / "migrations" / "subscribers",
    repository=Subscribers,
    concurrent=True,  # it reads, and what it reads may change a moment later
    recorded=RecordedSubscribers,  # type: ignore[arg-type]  # it answers what the handlers ask
)

directory: Port[Book] = Port("directory", _directory)
"""The subscribers in the stages' database, for who sends to them."""
