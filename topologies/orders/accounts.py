"""Our own books of payments: what was captured and given back, what the provider has paid out, and what is disputed.

The one rule: a payment is on them once it is captured, and by nothing that the provider says later.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Column, MetaData, String, Table, select
from sqlalchemy.engine import Connection

from streams.rows import Among, Changes, Rows, Undo
from streams.stage import Past, Store
from topologies.orders.events import OrderDisputed, PaymentCaptured, PaymentRefunded, readable

tables = MetaData()
payments = Table(
    "payments",
    tables,
    Column("payment_id", String, primary_key=True),
    Column("order_id", String, nullable=False),
    Column("customer_id", String, nullable=False),
    Column("currency", String, nullable=False),
    Column("captured_minor", BigInteger, nullable=False),
    Column("settled_minor", BigInteger),
    Column("settled_at", BigInteger),  # milliseconds since the Unix epoch
    Column("disputed_minor", BigInteger),
    Column("disputed_at", BigInteger),
    Column("refunded_minor", BigInteger),
)
_find = Among(payments.c.payment_id, select(payments).where)
_rows = Rows(payments, replace=True)


class Account(msgspec.Struct, frozen=True):
    """A payment on our books; amounts in minor units, times in milliseconds since the Unix epoch.

    `settled_minor` is None until it is paid out to us, `disputed_minor` until somebody disputes it, and `refunded_minor` until
    it is given back to the customer.
    """

    order_id: str
    customer_id: str
    currency: str
    captured_minor: int
    settled_minor: int | None = None
    settled_at: int | None = None
    disputed_minor: int | None = None
    disputed_at: int | None = None
    refunded_minor: int | None = None


class Accounts:
    """The books within one database transaction; see `streams.store.Bulk`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._undo = Undo()
        self._accounts: Changes[Account] = Changes(self._undo)

    def find(self, payment_id: str) -> Account | None:
        """A payment, if it is ours."""
        self._read((payment_id,))
        return self._accounts[payment_id]

    def open(self, captured: PaymentCaptured) -> None:
        """Put a payment on the books."""
        account = Account(captured.order_id, captured.customer_id, captured.currency, captured.total_minor)
        self._read((captured.payment_id,))
        self._accounts[captured.payment_id] = account

    def settle(self, payment_id: str, amount: int, at: datetime) -> None:
        """It has been paid out. Nothing happens to a payment that is not ours, here and in the other two."""
        self._change(payment_id, settled_minor=amount, settled_at=_millis(at))

    def refund(self, payment_id: str, amount: int) -> None:
        """It has been given back."""
        self._change(payment_id, refunded_minor=amount)

    def dispute(self, payment_id: str, amount: int, at: datetime) -> None:
        """It is disputed."""
        self._change(payment_id, disputed_minor=amount, disputed_at=_millis(at))

    # -- the batch ------------------------------------------------------------------------------------------------------

    def expect(self, events: Sequence[Any]) -> None:
        """Look up all these payments at once."""
        self._read([event.payment_id for event in events if readable(event.payment_id)])

    def event(self) -> Undo:
        """Undo in memory what an event that fails did."""
        return self._undo

    def flush(self) -> None:
        """Write what has changed since it was read."""
        changed = [
            {"payment_id": payment_id} | msgspec.structs.asdict(account)
            for payment_id, _, account in sorted(self._accounts.changed())  # all write in one order: nobody waits in a circle
        ]
        _rows.write(self._connection, changed)
        self._accounts.written()

    def _read(self, payment_ids: Iterable[str]) -> None:
        """Nobody else changes a payment: one transaction at a time works on this store."""
        self._accounts.read(payment_ids, self._look_up)

    def _look_up(self, payment_ids: list[str]) -> Iterator[tuple[str, Account]]:
        for payment_id, *rest in _find.rows(self._connection, payment_ids):
            yield payment_id, Account(*rest)

    def _change(self, payment_id: str, **changes: int) -> None:
        if (account := self.find(payment_id)) is not None:
            self._accounts[payment_id] = msgspec.structs.replace(account, **changes)


class RecordedAccounts:
    """The books as one event found them, told by what came of it: whatever was handled to its end was as it should be."""

    def __init__(self, past: Past) -> None:
        self._event = past.event
        self._disputed = past.output(OrderDisputed)

    def find(self, payment_id: str) -> Account | None:  # noqa: ARG002  # as `Accounts`
        """See `Accounts`. What was captured is on no topic that the event leads to: it covered what was told of it."""
        told = self._event
        if isinstance(told, PaymentCaptured):
            return None
        customer = self._disputed.customer_id if self._disputed else ""
        amount = told.total_minor if isinstance(told, PaymentRefunded) else told.amount_minor
        return Account(told.order_id, customer, told.currency, amount)

    def open(self, captured: PaymentCaptured) -> None:
        """Goes nowhere."""

    def settle(self, payment_id: str, amount: int, at: datetime) -> None:
        """Goes nowhere."""

    def refund(self, payment_id: str, amount: int) -> None:
        """Goes nowhere."""

    def dispute(self, payment_id: str, amount: int, at: datetime) -> None:
        """Goes nowhere."""


def _millis(at: datetime) -> int:
    return int(at.astimezone(UTC).timestamp() * 1000)


accounts: Store[Accounts] = Store(
    "accounts",
    tables=tables,
    migrations=Path(__file__).parent / "migrations" / "accounts",
    repository=Accounts,
    recorded=RecordedAccounts,  # type: ignore[arg-type]  # it answers what the handlers ask
)
