"""The provider's books within one transaction: payments, each move of money, answers by idempotency key, webhooks to be sent.

The one rule: a move of money and the webhook that tells of it are written together.
"""

import json
import secrets
import sqlite3
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from topologies.orders.psp.terms import Answer, Caller, Payment, Refused, State, Wish, chosen, complaint, iso

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS payments (
    id TEXT PRIMARY KEY, merchant TEXT NOT NULL, idempotency_key TEXT NOT NULL, order_id TEXT NOT NULL,
    customer_id TEXT NOT NULL, amount_minor INTEGER NOT NULL CHECK (amount_minor > 0), currency TEXT NOT NULL,
    state TEXT NOT NULL, captured_minor INTEGER NOT NULL CHECK (captured_minor BETWEEN 0 AND amount_minor),
    refunded_minor INTEGER NOT NULL CHECK (refunded_minor BETWEEN 0 AND captured_minor), code TEXT, reason TEXT,
    created_at INTEGER NOT NULL, settled_at INTEGER, disputed_at INTEGER, UNIQUE (merchant, idempotency_key));
CREATE INDEX IF NOT EXISTS unsettled ON payments (created_at) WHERE state = 'captured' AND settled_at IS NULL;
CREATE TABLE IF NOT EXISTS moves (
    number INTEGER PRIMARY KEY AUTOINCREMENT, payment_id TEXT NOT NULL REFERENCES payments (id), kind TEXT NOT NULL,
    amount_minor INTEGER NOT NULL, at INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS moves_by_time ON moves (at);
CREATE TABLE IF NOT EXISTS answers (
    merchant TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL, status INTEGER NOT NULL, page TEXT NOT NULL,
    PRIMARY KEY (merchant, key));
CREATE TABLE IF NOT EXISTS webhooks (
    id TEXT PRIMARY KEY, body BLOB NOT NULL, due_at INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS webhooks_by_time ON webhooks (due_at);
"""
_FIELDS: Final = Payment.__struct_fields__
_INSERT: Final = f"INSERT INTO payments ({', '.join(_FIELDS)}) VALUES ({', '.join('?' * len(_FIELDS))})"  # noqa: S608  # field names
_UPDATE: Final = f"UPDATE payments SET {', '.join(f'{name} = ?' for name in _FIELDS)} WHERE id = ?"  # noqa: S608  # as above
_PAST: Final = {
    "authorize": "authorized",
    "capture": "captured",
    "decline": "declined",
    "void": "voided",
    "refund": "refunded",
    "settle": "settled",
    "dispute": "disputed",
}


class Webhook(msgspec.Struct, frozen=True):
    """A webhook that is due, with how often it was tried."""

    id: str
    body: bytes
    attempts: int


class Books:
    """The books within one transaction, at one time (milliseconds since the Unix epoch)."""

    def __init__(self, connection: sqlite3.Connection, now: int, decline_share: float, hooks: bool) -> None:
        self._run = connection.execute
        self._now = now
        self._decline_share = decline_share
        self._hooks = hooks

    def pay(self, caller: Caller, wish: Wish) -> Answer:
        """A new payment: 201, or 402 if the customer's bank declines."""
        declined = chosen("", wish.order_id, self._decline_share)
        state = State.DECLINED if declined else State.CAPTURED if wish.capture else State.AUTHORIZED
        payment = Payment(
            id=f"pay_{secrets.token_hex(12)}",
            merchant=caller.merchant,
            idempotency_key=caller.key,
            order_id=wish.order_id,
            customer_id=wish.customer_id,
            amount_minor=wish.amount_minor,
            currency=wish.currency,
            state=state,
            captured_minor=wish.amount_minor if state is State.CAPTURED else 0,
            refunded_minor=0,
            code="card-declined" if declined else None,
            reason="Your bank declined the payment." if declined else None,
            created_at=self._now,
            settled_at=None,
            disputed_at=None,
        )
        self._run(_INSERT, msgspec.structs.astuple(payment))
        if payment.code and payment.reason:
            self._tell(payment, "decline", 0)
            return Answer(402, complaint(payment.code, payment.reason) | {"payment": payment.shown()})
        self._tell(payment, "authorize", payment.amount_minor)
        if state is State.CAPTURED:
            self._tell(payment, "capture", payment.amount_minor)
        return Answer(201, payment.shown())

    def capture(self, payment: Payment, amount: int | None) -> Answer:
        """Take what was set aside, or a part of it; the rest goes back."""
        _must_be(payment, State.AUTHORIZED)
        wanted = _within(amount, payment.amount_minor)
        return self._move(msgspec.structs.replace(payment, state=State.CAPTURED, captured_minor=wanted), "capture", wanted)

    def void(self, payment: Payment) -> Answer:
        """Give back what was set aside."""
        _must_be(payment, State.AUTHORIZED)
        return self._move(msgspec.structs.replace(payment, state=State.VOIDED), "void", payment.amount_minor)

    def refund(self, payment: Payment, amount: int | None) -> Answer:
        """Give back what was taken, or a part of what is left of it."""
        _must_be(payment, State.CAPTURED)
        wanted = _within(amount, payment.captured_minor - payment.refunded_minor)
        refunded = payment.refunded_minor + wanted
        state = State.REFUNDED if refunded == payment.captured_minor else State.CAPTURED
        return self._move(msgspec.structs.replace(payment, state=state, refunded_minor=refunded), "refund", wanted)

    def payment(self, merchant: str, payment_id: str) -> Payment:
        """A merchant's payment. Raises `Refused` if there is none of this id."""
        row = self._run("SELECT * FROM payments WHERE merchant = ? AND id = ?", (merchant, payment_id)).fetchone()
        if row is None:
            raise Refused(404, "payment-unknown", "There is no payment of this id.")
        return _payment(row)

    def by_key(self, merchant: str, key: str) -> list[Payment]:
        """The payment that was asked for under this key, if there is one."""
        found = "SELECT * FROM payments WHERE merchant = ? AND idempotency_key = ?"
        return [_payment(row) for row in self._run(found, (merchant, key))]

    def answered(self, caller: Caller) -> Answer | None:
        """The first answer to this key. Raises `Refused` if something else was asked then."""
        asked = "SELECT fingerprint, status, page FROM answers WHERE merchant = ? AND key = ?"
        row = self._run(asked, (caller.merchant, caller.key)).fetchone()
        if row is None:
            return None
        if row["fingerprint"] != caller.fingerprint:
            raise Refused(422, "idempotency-key-reused", "This Idempotency-Key was used for another request.")
        return Answer(row["status"], json.loads(row["page"]), replayed=True)

    def answer(self, caller: Caller, answer: Answer) -> None:
        """Keep an answer."""
        row = (caller.merchant, caller.key, caller.fingerprint, answer.status, json.dumps(answer.page))
        self._run("INSERT INTO answers VALUES (?, ?, ?, ?, ?)", row)

    def settle(self, before: int, dispute_share: float, limit: int = 200) -> int:
        """Settle captured payments from before a time, and dispute a share of them. How many."""
        due = "SELECT * FROM payments WHERE state = 'captured' AND settled_at IS NULL AND created_at <= ? LIMIT ?"
        payments = [_payment(row) for row in self._run(due, (before, limit)).fetchall()]
        for payment in payments:
            left = payment.captured_minor - payment.refunded_minor
            settled = msgspec.structs.replace(payment, settled_at=self._now)
            self._move(settled, "settle", left)
            if chosen("dispute ", payment.order_id, dispute_share):
                self._move(msgspec.structs.replace(settled, disputed_at=self._now), "dispute", left)
        return len(payments)

    def _move(self, payment: Payment, kind: str, amount: int) -> Answer:
        self._run(_UPDATE, (*msgspec.structs.astuple(payment), payment.id))
        self._tell(payment, kind, amount)
        return Answer(200, payment.shown())

    def statement(self, merchant: str, start: int, end: int) -> Iterator[sqlite3.Row]:
        """A merchant's moves from `start` to before `end`, in their order."""
        return self._run(
            "SELECT moves.number, moves.at, moves.kind, payments.id, payments.order_id, payments.idempotency_key, "
            "moves.amount_minor, payments.currency FROM moves JOIN payments ON payments.id = moves.payment_id "
            "WHERE payments.merchant = ? AND moves.at >= ? AND moves.at < ? ORDER BY moves.number",
            (merchant, start, end),
        )

    def due(self, limit: int) -> list[Webhook]:
        """Webhooks that are due, the longest due first."""
        rows = self._run("SELECT * FROM webhooks WHERE due_at <= ? ORDER BY due_at LIMIT ?", (self._now, limit))
        return [Webhook(row["id"], row["body"], row["attempts"]) for row in rows]

    def postpone(self, webhook: Webhook, due: int) -> None:
        """Send it (again) at `due`."""
        self._run("UPDATE webhooks SET due_at = ?, attempts = attempts + 1 WHERE id = ?", (due, webhook.id))

    def done(self, webhook: Webhook) -> None:
        """Send it no more."""
        self._run("DELETE FROM webhooks WHERE id = ?", (webhook.id,))

    def _tell(self, payment: Payment, kind: str, amount: int) -> None:
        """Write the move, and the webhook that tells of it."""
        move = (payment.id, kind, amount, self._now)
        self._run("INSERT INTO moves (payment_id, kind, amount_minor, at) VALUES (?, ?, ?, ?)", move)
        if self._hooks:
            page: dict[str, Any] = {"type": f"payment.{_PAST[kind]}", "timestamp": iso(self._now)}
            page["data"] = payment.shown() | {"moved_minor": amount}
            row = (f"msg_{secrets.token_hex(16)}", json.dumps(page).encode(), self._now)
            self._run("INSERT INTO webhooks (id, body, due_at) VALUES (?, ?, ?)", row)


def _payment(row: sqlite3.Row) -> Payment:
    values = dict(row)
    return Payment(**values | {"state": State(values["state"])})


def _must_be(payment: Payment, state: State) -> None:
    if payment.state is not state:
        raise Refused(400, "payment-state", f"The payment is {payment.state.value}, not {state.value}.")


def _within(amount: int | None, most: int) -> int:
    if amount is not None and amount > most:
        raise Refused(400, "amount-too-large", f"At most {most} is left.")
    return most if amount is None else amount
