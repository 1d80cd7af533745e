"""Our own books of payments: what was captured and given back, what the provider has paid out, and what is disputed.

The one rule: a payment is on them once it is captured, and by nothing that the provider says later.
"""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
from sqlalchemy import BigInteger, Column, MetaData, String, Table, bindparam, insert, select, update
from sqlalchemy.engine import Connection

from streams.stage import Past, Store
from topologies.orders.events import OrderDisputed, PaymentCaptured, PaymentRefunded

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
_this = payments.c.payment_id == bindparam("this")
_find = select(
    payments.c.order_id,
    payments.c.customer_id,
    payments.c.currency,
    payments.c.captured_minor,
    payments.c.settled_minor,
    payments.c.refunded_minor,
).where(_this)
_add = insert(payments)
_settle = update(payments).where(_this).values(settled_minor=bindparam("amount"), settled_at=bindparam("at"))
_refund = update(payments).where(_this).values(refunded_minor=bindparam("amount"))
_dispute = update(payments).where(_this).values(disputed_minor=bindparam("amount"), disputed_at=bindparam("at"))


class Account(msgspec.Struct, frozen=True):
    """A payment on our books; amounts in minor units. `settled_minor` is None until it is paid out to us.

    `refunded_minor` is None until it is given back to the customer.
    """

    order_id: str
    customer_id: str
    currency: str
    captured_minor: int
    settled_minor: int | None
    refunded_minor: int | None


class Accounts:
    """The books within one database transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def find(self, payment_id: str) -> Account | None:
        """A payment, if it is ours."""
        row = self._connection.execute(_find, {"this": payment_id}).first()
        return Account(*row) if row is not None else None

    def open(self, captured: PaymentCaptured) -> None:
        """Put a payment on the books."""
        row = {
            "payment_id": captured.payment_id,
            "order_id": captured.order_id,
            "customer_id": captured.customer_id,
            "currency": captured.currency,
            "captured_minor": captured.total_minor,
        }
        self._connection.execute(_add, row)

    def settle(self, payment_id: str, amount: int, at: datetime) -> None:
        """It has been paid out."""
        self._connection.execute(_settle, {"this": payment_id, "amount": amount, "at": _millis(at)})

    def refund(self, payment_id: str, amount: int) -> None:
        """It has been given back."""
        self._connection.execute(_refund, {"this": payment_id, "amount": amount})

    def dispute(self, payment_id: str, amount: int, at: datetime) -> None:
        """It is disputed."""
        self._connection.execute(_dispute, {"this": payment_id, "amount": amount, "at": _millis(at)})


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
        return Account(told.order_id, customer, told.currency, amount, None, None)

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
