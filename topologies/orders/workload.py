"""The order flow, simulated: shops, customers, a provider with its own ledger, subscribers; and what has to come of it.

The one rule: what is done outside stays done, whoever crashes; each order's money and goods are in the right hands at the end.

`towpath simulate topologies.orders` finds `workload`.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.engine import Connection

from streams.errors import Reject, Retry, Unavailable
from streams.history import Balance, Effect
from streams.simulator.workload import Clock, Ending, Judgement, Workload
from streams.stage import Port
from topologies.orders import orders
from topologies.orders.accounts import payments
from topologies.orders.events import (
    DeliveryRequested,
    NotificationSent,
    OrderAccepted,
    OrderCancelled,
    OrderClosed,
    OrderLine,
    OrderRejected,
    OrderSubmitted,
    PaymentCaptured,
    PaymentDisputed,
    PaymentFailed,
    PaymentRefunded,
    PaymentSettled,
    StockRejected,
)
from topologies.orders.inventory import deadline
from topologies.orders.outgoing import hooks
from topologies.orders.ports import Captured, Charge, Declined, Letter, Refund, mail, psp
from topologies.orders.post import post
from topologies.orders.progress import LAST, State
from topologies.orders.progress import orders as order_rows
from topologies.orders.stock import Stock, levels
from topologies.orders.submissions import submissions
from topologies.orders.subscribers import Subscriber, Subscribers, directory

_PLACED: Final = datetime(2024, 5, 1, tzinfo=UTC)
_THERE: Final = {"TEA": 400, "CUP": 100_000, "POT": 100_000}
_DEADLINE: Final = 50.0
_states = select(order_rows.c.order_id, order_rows.c.state)
_booked = select(payments.c.payment_id)
_levels = select(levels)
_repeats = select(submissions.tables.tables["submissions"].c.repeats)
_SUBSCRIBER: Final = Subscriber("sub-1", "c1", "https://shop.example/hook", ("whsec_x",))


class Provider:
    """A payment provider. It charges once per key; `busy` and `away` and `mute` last until a time of the clock."""

    def __init__(self, clock: Clock) -> None:
        self.charged: dict[str, Charge] = {}  # by key
        self.refunded: dict[str, Refund] = {}
        self.away = self.busy = self.mute = self.slow = 0.0
        self._clock = clock

    async def capture(self, charge: Charge) -> Captured | Declined:
        """See `PaymentProvider`."""
        await self._troubled(charge.key)
        if charge.order_id.endswith("7"):
            return Declined("card-declined", "Your bank declined the payment.")
        self.charged.setdefault(charge.key, charge)
        self._answer()
        return Captured(f"pay {charge.key}")

    async def refund(self, refund: Refund) -> None:
        """See `PaymentProvider`."""
        await self._troubled(refund.key)
        self.refunded.setdefault(refund.key, refund)
        self._answer()

    async def _troubled(self, key: str) -> None:
        now = self._clock.now()
        if now < self.away:
            raise Unavailable("psp")
        if now < self.busy and key[-1] in "0123":
            raise Retry("busy", after=7)
        if now < self.slow and key[-1] in "45":
            await asyncio.sleep(70)

    def _answer(self) -> None:
        if self._clock.now() < self.mute:  # it has done it, and its answer is lost
            raise Unavailable("psp")


class Letters:
    """A mailer that takes letters, or is away."""

    def __init__(self, clock: Clock) -> None:
        self.taken: Counter[str] = Counter()
        self.away = 0.0
        self._clock = clock

    def send(self, letter: Letter) -> None:
        """See `Mailer`."""
        if self._clock.now() < self.away:
            raise Unavailable("mail")
        self.taken[letter.event_id] += 1


class Hooks:
    """A subscriber's server: it takes a message, is busy, or refuses it."""

    def __init__(self, clock: Clock) -> None:
        self.taken: dict[str, str] = {}  # by the message's id
        self.busy = 0.0
        self._clock = clock

    async def send(self, to: Subscriber, told: DeliveryRequested) -> bool:
        """See `outgoing.Hooks`."""
        if self._clock.now() < self.busy:
            raise Retry(f"{to.subscriber_id} is busy")
        self.taken[told.delivery_id] = told.event_id
        return True

    async def find(self, subscriber_id: str) -> Subscriber | None:
        """See `Book`."""
        return _SUBSCRIBER if subscriber_id == _SUBSCRIBER.subscriber_id else None

    async def end(self, subscriber_id: str, why: str) -> None:
        """See `Book`. Nobody here is given up: each trouble is over before the last attempt."""
        raise Reject(f"{subscriber_id} was given up: {why}")


class Shop:
    """One run's outside."""

    def __init__(self, clock: Clock) -> None:
        self.provider = Provider(clock)
        self.letters = Letters(clock)
        self.hooks = Hooks(clock)
        self.ports: Mapping[Port[Any], Any] = {
            psp: self.provider,
            mail: self.letters,
            hooks: self.hooks,
            directory: self.hooks,
            post: None,  # no subscriber has an e-mail address
            deadline: _DEADLINE,
        }
        self.submitted: dict[str, OrderSubmitted] = {}
        self.repeats: Counter[str] = Counter()
        self.otherwise = 0
        self.cancelled: set[str] = set()
        self._settled: set[str] = set()
        self._clock = clock

    # -- what happens ---------------------------------------------------------------------------------------------------

    def prepare(self, connection: Connection) -> None:
        """See `World`."""
        stock = Stock(connection)
        stock.restock(_THERE)
        stock.flush()
        Subscribers(connection).add(_SUBSCRIBER)

    def produce(self, random: Random, count: int) -> Iterator[Any]:
        """See `World`: mostly new orders."""
        for _ in range(count):
            chance = random.random()
            known = list(self.submitted)
            if chance < 0.8 or not known:
                yield self._order(random)
            elif chance < 0.86:
                order_id = random.choice(known)
                self.repeats[order_id] += 1
                yield self.submitted[order_id]
            elif chance < 0.87:
                yield self._changed(random.choice(known))
            elif chance < 0.95:
                order_id = random.choice((*known[-20:], f"o{len(known) + random.randrange(3)}"))
                self.cancelled.add(order_id)
                yield OrderCancelled(order_id, "No.", "customer")
            else:
                yield from self._webhooks(random)

    def trouble(self, random: Random) -> str:
        """See `World`."""
        what = random.choice(("away", "busy", "mute", "slow", "no letters", "hooks busy"))
        until = self._clock.now() + random.choice((1.0, 10.0, 60.0))
        match what:
            case "no letters":
                self.letters.away = until
            case "hooks busy":
                self.hooks.busy = until
            case _:
                setattr(self.provider, what, until)
        return f"trouble: {what} for {until - self._clock.now():g} s"

    def heal(self) -> None:
        """See `World`."""
        provider = self.provider
        provider.away = provider.busy = provider.mute = provider.slow = self.letters.away = self.hooks.busy = 0.0

    def _order(self, random: Random) -> OrderSubmitted:
        number = len(self.submitted)
        lines = [OrderLine("CUP", "cup", 1 + number % 3, 100 + number), OrderLine("POT", "pot", 1, 1_000)]
        if random.random() < 0.3:
            lines.append(OrderLine("TEA", "tea", random.randint(1, 20), 10))
        if random.random() < 0.02:
            lines[0] = OrderLine("CUP", "cup", -1, 100)  # intake rejects it
        customer = f"c{1 + number % 10}"
        order = OrderSubmitted(f"o{number}", customer, "s1", _PLACED, "USD", tuple(lines))
        self.submitted[order.order_id] = order
        return order

    def _changed(self, order_id: str) -> OrderSubmitted:
        self.otherwise += 1
        order = self.submitted[order_id]
        return OrderSubmitted(order_id, order.customer_id, "s2", _PLACED, "EUR", order.lines)

    def _webhooks(self, random: Random) -> Iterator[PaymentSettled | PaymentDisputed]:
        """What the provider says of its payments: each is settled once, whenever that may be."""
        open_ = [key for key in self.provider.charged if key not in self._settled]
        if open_:
            key = random.choice(open_)
            charge = self.provider.charged[key]
            self._settled.add(key)
            what = PaymentSettled if random.random() < 0.8 else PaymentDisputed
            yield what(charge.order_id, f"pay {key}", charge.currency, charge.amount_minor, _PLACED)

    # -- what has to come of it -----------------------------------------------------------------------------------------

    def judge(self, ending: Ending) -> Judgement:
        """See `World`."""
        states = {row[0]: State(row[1]) for row in ending.rows(_states)}
        accepted = {order.order_id: order for order in ending.outputs(OrderAccepted)}
        shipped = [accepted[order_id] for order_id, state in states.items() if state is State.SHIPPED]
        charged, refunded = self.provider.charged.values(), self.provider.refunded.values()
        told = Counter(event.order_id for event in ending.outputs(NotificationSent))
        closed = Counter(event.order_id for event in ending.outputs(OrderClosed))
        turned_down = Counter(event.order_id for event in ending.outputs(OrderRejected))
        turned_down.update(event.order_id for event in ending.outputs(StockRejected))
        rest = {order_id for order_id in accepted if states.get(order_id) not in LAST}
        kept = sum(charge.amount_minor for charge in charged) - sum(refund.amount_minor for refund in refunded)
        captured = ending.outputs(PaymentCaptured)
        return Judgement(
            effects=[
                *(Effect("charge", charge.order_id) for charge in charged),
                *(Effect("refund", refund.order_id) for refund in refunded),
            ],
            balances=[
                *self._goods(shipped, ending),
                Balance("orders that came to no last state", 0, len(rest)),
                Balance("money kept and money for what was shipped", sum(order.total_minor for order in shipped), kept),
                Balance("charges and captures", len(charged), len(captured)),
                Balance("refunds and refunds published", len(refunded), len(ending.outputs(PaymentRefunded))),
                Balance("captures and payments on our books", len(captured), len(ending.rows(_booked))),
                Balance("captures and declines, and orders asked for", len(set(self._asked(ending))), len(self._asked(ending))),
                Balance("ends and ends told", (closed + turned_down).total(), told.total()),
                Balance("orders that ended and nobody was told", 0, len((closed + turned_down).keys() - told.keys())),
                Balance("shipped and yet cancelled", 0, len({order.order_id for order in shipped} & self.cancelled)),
                Balance("repeats noticed", self.repeats.total(), self._repeated(ending)),
                Balance("cases that nobody expects", 0, len(self._strange(ending))),
            ],
            ends={order_id: frozenset({NotificationSent}) for order_id in self.submitted},
        )

    def _goods(self, shipped: Sequence[OrderAccepted], ending: Ending) -> Iterator[Balance]:
        gone: Counter[str] = Counter()
        for order in shipped:
            for line in order.demand:
                gone[line.sku] += line.quantity
        for sku, on_hand, reserved in ending.rows(_levels):
            yield Balance(f"{sku} on the shelf", _THERE[sku] - gone[sku], on_hand)
            yield Balance(f"{sku} set aside", 0, reserved)

    def _asked(self, ending: Ending) -> list[str]:
        captured = [event.order_id for event in ending.outputs(PaymentCaptured)]
        return captured + [event.order_id for event in ending.outputs(PaymentFailed)]

    def _repeated(self, ending: Ending) -> int:
        return sum(repeats for (repeats,) in ending.rows(_repeats))

    def _strange(self, ending: Ending) -> list[str]:
        """Open cases, but of orders that came otherwise than before."""
        return [case.case_id for case in ending.cases if case.state == "open" and case.stage != "intake"]


workload: Final = Workload(
    orders,
    Shop,
    single=[OrderAccepted, PaymentCaptured, PaymentFailed, PaymentRefunded, NotificationSent],
)
"""What `towpath simulate topologies.orders` plays."""
