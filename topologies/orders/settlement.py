"""Settlement: what the provider says of its payments is compared with what we have on our books.

The one rule: a payment that we do not know, or know otherwise, is a case for people and moves nothing.

Settlements and disputes come from outside, in any order, and may be here before the capture itself: they wait for it, and
since none waits for another of its order (`order="none"`), the capture goes past them.
"""

from streams.errors import Reject, Retry
from streams.stage import Backoff, Context, Stage
from topologies.orders.accounts import Account, accounts
from topologies.orders.events import (
    OrderDisputed,
    PaymentCaptured,
    PaymentDisputed,
    PaymentRefunded,
    PaymentSettled,
    readable,
)

settlement = Stage("settlement", retry=Backoff(attempts=8, first=0.5, ceiling=30), store=accounts, order="none")


@settlement.on
def enter(paid: PaymentCaptured, ctx: Context) -> None:
    """Put the payment on the books."""
    if ctx.use(accounts).find(paid.payment_id) is not None:
        raise Reject(f"payment {paid.payment_id} of order {paid.order_id} is on the books already")
    ctx.use(accounts).open(paid)


@settlement.on
def settle(told: PaymentSettled, ctx: Context) -> None:
    """Note what was paid out."""
    account = _account(told, told.amount_minor, ctx)
    if account.settled_minor is not None:
        raise Reject(f"payment {told.payment_id} was settled before, with {account.settled_minor}")
    ctx.use(accounts).settle(told.payment_id, told.amount_minor, told.settled_at)


@settlement.on
def dispute(told: PaymentDisputed, ctx: Context) -> OrderDisputed:
    """Note the dispute, and let everybody know whom it is about."""
    account = _account(told, told.amount_minor, ctx)
    ctx.use(accounts).dispute(told.payment_id, told.amount_minor, told.disputed_at)
    return OrderDisputed(account.order_id, account.customer_id, told.payment_id, told.currency, told.amount_minor)


@settlement.on
def give_back(refunded: PaymentRefunded, ctx: Context) -> None:
    """Note what the customer has back."""
    account = _account(refunded, refunded.total_minor, ctx)
    if account.refunded_minor is not None:
        raise Reject(f"payment {refunded.payment_id} was given back before, with {account.refunded_minor}")
    ctx.use(accounts).refund(refunded.payment_id, refunded.total_minor)


def _account(told: PaymentSettled | PaymentDisputed | PaymentRefunded, amount: int, ctx: Context) -> Account:
    """The payment that is meant. Raises `Retry` for one that is not on the books (yet), `Reject` where they say otherwise."""
    if not readable(told.payment_id):  # no database need be asked, and PostgreSQL would not even answer
        raise Reject("a payment without a readable number")
    account = ctx.use(accounts).find(told.payment_id)
    if account is None:
        raise Retry(f"no payment {told.payment_id} is on our books")
    if told.order_id != account.order_id:
        raise Reject(f"payment {told.payment_id} is of order {account.order_id}, not {told.order_id}")
    if told.currency != account.currency or not 0 < amount <= account.captured_minor:
        raise Reject(
            f"payment {told.payment_id} is of {account.captured_minor} {account.currency}, not {amount} {told.currency}"
        )
    return account
