"""A small topology to be simulated, with what the order flow has not: a key that is held for its dead, a stage without order.

The one rule: an account's entries are booked one after the other, as they were sent, whatever befalls any of them.
"""

import atexit
import json
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec
from sqlalchemy import BigInteger, Column, MetaData, String, Table, insert, select, update
from sqlalchemy.engine import Connection

from streams.errors import Reject, Retry, Unavailable
from streams.history import Balance, Effect
from streams.record import event
from streams.release import bring_ours, lock_schemas
from streams.simulator import Clock, Ending, Judgement, Workload
from streams.stage import Backoff, Context, Later, Port, Stage, Store
from streams.topology import Topology

ACCOUNTS: Final = ("ann", "bob", "cid")


@event("till.entered", key="account")
class Entered(msgspec.Struct, frozen=True):
    account: str
    number: int
    amount: int


@event("till.booked", key="account")
class Booked(msgspec.Struct, frozen=True):
    account: str
    number: int
    position: int
    balance: int


@event("till.look", key="account")
class Look(msgspec.Struct, frozen=True):
    account: str
    number: int


@event("till.looked", key="account")
class Looked(msgspec.Struct, frozen=True):
    account: str
    number: int
    late: int


@event("till.printed", key="account")
class Printed(msgspec.Struct, frozen=True):
    account: str
    number: int


_TABLES = MetaData()
_accounts = Table(
    "accounts",
    _TABLES,
    Column("account", String, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("balance", BigInteger, nullable=False),
)
accounts: Store[Connection] = Store("till", tables=_TABLES, migrations=Path(), repository=lambda connection: connection)
world: Port["Counter"] = Port("world", lambda _: None)  # type: ignore[arg-type,return-value]  # never connected to
book = Stage("book", store=accounts, ports=[world], retry=Backoff(attempts=3, first=1, ceiling=4), after_dead="hold")
copy = Stage("copy", ports=[world], retry=Backoff(attempts=4, first=1, ceiling=4), order="none")


@book.on
def enter(entered: Entered, ctx: Context) -> tuple[Booked | Later[Look], ...]:
    """The account is changed before anything is asked: what fails has to be undone."""
    database = ctx.use(accounts)
    here = _accounts.c.account == entered.account
    _, position, balance = database.execute(select(_accounts).where(here)).one()
    database.execute(update(_accounts).where(here).values(position=position + 1, balance=balance + entered.amount))
    ctx.use(world).ask(entered.number)
    booked = Booked(entered.account, entered.number, position + 1, balance + entered.amount)
    return booked, Later(Look(entered.account, entered.number), 30)


@book.on
def look(due: Look, ctx: Context) -> Looked:
    return Looked(due.account, due.number, int(ctx.now) - ctx.use(world).entered[due.number])


@copy.on
async def print_(booked: Booked, ctx: Context) -> Printed:
    ctx.use(world).print(ctx.idempotency_key, booked)
    return Printed(booked.account, booked.number)


class Counter:
    """One run's outside: entries that are busy for a while, some that fail until people mend them, and a printer."""

    def __init__(self, clock: Clock) -> None:
        self.ports: Mapping[Port[Any], Any] = {world: self}
        self.entered: dict[int, int] = {}
        self.sent: dict[str, list[Entered]] = defaultdict(list)
        self.printed: dict[str, Booked] = {}
        self._busy = self._away = 0.0
        self._healed = False
        self._clock = clock

    def ask(self, number: int) -> None:
        if not self._healed and number % 23 == 5:
            raise Reject("somebody has to look at this")
        if self._clock.now() < self._busy and number % 3 == 0:
            raise Retry("busy")
        if self._clock.now() < self._away:
            raise Unavailable("clerk")

    def print(self, key: str, booked: Booked) -> None:
        if self._clock.now() < self._busy and booked.number % 5 == 0:
            raise Retry("no paper")
        if booked.number % 29 == 7:
            raise ValueError("a number that cannot be printed")
        self.printed.setdefault(key, booked)

    def prepare(self, connection: Connection) -> None:
        connection.execute(insert(_accounts), [{"account": name, "position": 0, "balance": 0} for name in ACCOUNTS])

    def produce(self, random: Random, count: int) -> Iterator[Entered]:
        for _ in range(count):
            entered = Entered(random.choice(ACCOUNTS), len(self.entered), random.randint(-50, 50))
            self.entered[entered.number] = int(self._clock.now())
            self.sent[entered.account].append(entered)
            yield entered

    def trouble(self, random: Random) -> str:
        self._busy = self._clock.now() + random.choice((2, 20))
        self._away = self._clock.now() + random.choice((0, 0, 5))
        return "busy"

    def heal(self) -> None:
        self._busy = self._away = 0.0
        self._healed = True

    def judge(self, ending: Ending) -> Judgement:
        """Positions count up in the order of sending, and the balance after each is the sum up to it."""
        balances: list[Balance] = []
        booked: dict[str, list[Booked]] = defaultdict(list)
        for each in ending.outputs(Booked):
            booked[each.account].append(each)
        dismissed = [case for case in ending.cases if case.state == "dismissed" and case.stage == "book"]
        for account, all_ in self.sent.items():
            found = booked[account]
            there = {each.number for each in found}
            missing = [entered.number for entered in all_ if entered.number not in there]
            gone = set(missing) if len(missing) == sum(case.key == account.encode() for case in dismissed) else set()
            sent = [entered for entered in all_ if entered.number not in gone]
            balances.append(Balance(f"{account}: entries", len(sent), len(found)))
            total = 0
            for position, (entered, got) in enumerate(zip(sent, found, strict=False), 1):
                total += entered.amount
                balances.append(Balance(f"{account}: number at {position}", entered.number, got.number))
                balances.append(Balance(f"{account}: position of {got.number}", position, got.position))
                balances.append(Balance(f"{account}: balance after {got.number}", total, got.balance))
        looked = ending.outputs(Looked)
        balances.append(Balance("looked at", sum(map(len, booked.values())), len(looked)))
        balances.append(Balance("looked at too early", 0, sum(each.late < 9 for each in looked)))  # clocks are 20 s off at most
        balances.append(Balance("looked at a day too late", 0, sum(each.late > 86_400 for each in looked)))
        return Judgement(
            effects=[Effect("print", f"{each.number}") for each in self.printed.values()],
            balances=balances,
            ends={account: frozenset({Booked}) for account in self.sent},
        )


def _made() -> Topology:
    folder = Path(tempfile.mkdtemp(prefix="towpath-till-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for cls in (Entered, Booked, Look, Looked, Printed):
        topic = cls.__dict__["__event__"].topic
        fields = [
            {"name": name, "type": "string" if name == "account" else "long", "doc": "."} for name in cls.__struct_fields__
        ]
        path = folder / "till" / cls.__name__ / "v1.avsc"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"type": "record", "name": cls.__name__, "topic": topic, "doc": ".", "fields": fields}))
    bring_ours(folder)
    lock_schemas(folder)
    return Topology("till", sources=[Entered], stages=[book, copy], sinks=[Looked, Printed], schemas=folder, partitions=2)


till = _made()
workload = Workload(till, Counter, single=[Booked, Looked, Printed])
