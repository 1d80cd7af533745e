"""What the provider and its merchants talk about: payments, what is asked of them, and refusals.

The one rule: values only. An amount is whole minor units of an ISO 4217 currency; a time is milliseconds since the Unix epoch.
"""

import enum
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import msgspec


class State(enum.StrEnum):
    """Where a payment stands. A captured one may be settled and disputed besides."""

    AUTHORIZED = "authorized"
    CAPTURED = "captured"
    DECLINED = "declined"
    VOIDED = "voided"
    REFUNDED = "refunded"


class Payment(msgspec.Struct, frozen=True):
    """One payment as it is now; field by field a row of the ledger's table."""

    id: str
    merchant: str
    idempotency_key: str
    order_id: str
    customer_id: str
    amount_minor: int
    currency: str
    state: State
    captured_minor: int
    refunded_minor: int
    code: str | None
    reason: str | None
    created_at: int
    settled_at: int | None
    disputed_at: int | None

    def shown(self) -> dict[str, Any]:
        """As the merchant sees it."""
        page: dict[str, Any] = msgspec.to_builtins(self)
        del page["merchant"]
        for name in ("created_at", "settled_at", "disputed_at"):
            page[name] = page[name] and iso(page[name])
        return page


class Wish(msgspec.Struct, frozen=True):
    """A payment that is asked for. Without `capture` the money is only set aside."""

    order_id: str
    customer_id: str
    amount_minor: int
    currency: str
    capture: bool


class Caller(msgspec.Struct, frozen=True):
    """Who asks, under which idempotency key; `fingerprint` says for what, so that a key stands for one thing."""

    merchant: str
    key: str
    fingerprint: str


class Answer(msgspec.Struct, frozen=True):
    """What is answered. `replayed`: it is the answer of the first time."""

    status: int
    page: dict[str, Any]
    replayed: bool = False


class Refused(Exception):
    """What was asked is not done, and nothing has changed. `code` is for machines."""

    def __init__(self, status: int, code: str, message: str, *, after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.after = after


def complaint(code: str, message: str) -> dict[str, Any]:
    """The body of every answer that is no success."""
    return {"error": {"code": code, "message": message}}


def chosen(what: str, name: str, share: float) -> bool:
    """Whether `name` is among a share of all: always the same ones."""
    return int.from_bytes(sha256(f"{what}{name}".encode()).digest()[:8]) < share * 2**64


def iso(millis: int) -> str:
    """A time for people and JSON, UTC."""
    return datetime.fromtimestamp(millis / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
