"""What the order flow needs from outside: a payment provider and a mailer, and our own stand-ins for them.

The one rule: a refusal of what a customer wants is an answer; what keeps an adapter from getting an answer is a verdict.

An adapter says `Unavailable` when its other side is away (the stage holds and asks again), `Retry` when it has no time for
this one now (the event waits, others go on), and `Reject` when it will never take it as it is (people must look).
"""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol

import msgspec

from streams.config import Settings
from streams.errors import SetupError, Unavailable, Undecidable
from streams.stage import Past, Port, Telling
from topologies.orders.events import PaymentCaptured, PaymentFailed, PaymentRefunded
from topologies.orders.faults import Faults, Troubles

DECLINE_SHARE: Final = 0.02


class Charge(msgspec.Struct, frozen=True):
    """What a customer is to pay. `key` names the charge: two with the same key are one."""

    key: str
    order_id: str
    customer_id: str
    amount_minor: int
    currency: str


class Captured(msgspec.Struct, frozen=True):
    """The money is ours. `payment_id` is the provider's name of the payment."""

    payment_id: str


class Declined(msgspec.Struct, frozen=True):
    """No money moved. `code` is for machines, `reason` for the customer."""

    code: str
    reason: str


class Refund(msgspec.Struct, frozen=True):
    """A payment that is to be given back, all of it. `key` names the refund: two with the same key are one."""

    key: str
    order_id: str
    payment_id: str
    amount_minor: int


class PaymentProvider(Protocol):
    """Somebody who moves money."""

    async def capture(self, charge: Charge) -> Captured | Declined:
        """Charge once per `charge.key`; asked again, give the first answer.

        An adapter that gets no answer asks for the outcome by that key before it charges again, and raises `Unavailable`
        if there is none to be had; `Retry` if the provider is busy, `Reject` if it cannot make sense of the charge.
        """
        ...

    async def refund(self, refund: Refund) -> None:
        """Give a payment back once, however often it is asked for; raises as `capture` does."""
        ...


class Letter(msgspec.Struct, frozen=True):
    """A message to a customer. `event_id` names what it is about: two letters with the same one are one letter."""

    event_id: str
    written_at: datetime
    order_id: str
    customer_id: str
    subject: str
    message: str


class Mailer(Protocol):
    """Somebody who takes letters to customers."""

    def send(self, letter: Letter) -> None:
        """Take the letter, or raise `Unavailable`."""
        ...


class OwnProvider:
    """A provider within the process that declines a share of all orders, always the same ones.

    Its answer follows from the charge alone, so that it needs no memory to give the same one again.
    """

    def __init__(self, decline_share: float = DECLINE_SHARE) -> None:
        self.decline_share = decline_share

    def declines(self, order_id: str) -> bool:
        """Whether it will decline this order."""
        return int.from_bytes(sha256(order_id.encode()).digest()[:8]) < self.decline_share * 2**64

    async def capture(self, charge: Charge) -> Captured | Declined:
        """See `PaymentProvider`."""
        if self.declines(charge.order_id):
            return Declined("card-declined", "Your bank declined the payment.")
        return Captured(f"pay_{sha256(charge.key.encode()).hexdigest()[:24]}")

    async def refund(self, refund: Refund) -> None:
        """See `PaymentProvider`. There is no money to be given back."""


class FileMailer:
    """Appends letters to a file, one JSON object a line; several processes may append to one file.

    A file knows no transactions: after a crash a letter may be there twice, and its `event_id` says so.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def send(self, letter: Letter) -> None:
        """See `Mailer`."""
        line = msgspec.json.encode(letter) + b"\n"
        try:
            written = os.write(self._file, line)  # one write: the kernel keeps lines of several processes apart
        except OSError as error:
            raise Unavailable("mail") from error
        if written != len(line):
            raise Unavailable("mail")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class TroubledProvider:
    """A provider with faults to order."""

    def __init__(self, provider: PaymentProvider, troubles: Troubles) -> None:
        self._provider = provider
        self._troubles = troubles

    async def capture(self, charge: Charge) -> Captured | Declined:
        """See `PaymentProvider`."""
        self._troubles.at_provider(charge.order_id)
        return await self._provider.capture(charge)

    def state(self) -> str:
        """See `streams.stage.Telling`: the provider's own."""
        return self._provider.state() if isinstance(self._provider, Telling) else "closed"

    async def refund(self, refund: Refund) -> None:
        """See `PaymentProvider`. What troubles a charge is over by now."""
        await self._provider.refund(refund)


class TroubledMailer:
    """A mailer with faults to order."""

    def __init__(self, mailer: Mailer, troubles: Troubles) -> None:
        self._mailer = mailer
        self._troubles = troubles

    def send(self, letter: Letter) -> None:
        """See `Mailer`."""
        self._troubles.at_mailer(letter.order_id)
        self._mailer.send(letter)


class RecordedProvider:
    """What the provider answered when an event was handled, told by what came of it."""

    def __init__(self, past: Past) -> None:
        self._past = past

    async def capture(self, charge: Charge) -> Captured | Declined:
        """See `PaymentProvider`. Raises `Undecidable` for an order without an outcome, and for another amount than then."""
        outcome = self._past.output(PaymentCaptured) or self._past.output(PaymentFailed)
        if outcome is None:
            raise Undecidable(f"nothing says what came of the charge of order {charge.order_id}")
        if (outcome.total_minor, outcome.currency) != (charge.amount_minor, charge.currency):
            raise Undecidable(f"order {charge.order_id} was charged {outcome.total_minor} {outcome.currency} then")
        if isinstance(outcome, PaymentCaptured):
            return Captured(outcome.payment_id)
        return Declined(outcome.code, outcome.reason)

    async def refund(self, refund: Refund) -> None:
        """See `PaymentProvider`."""
        if self._past.output(PaymentRefunded) is None:
            raise Undecidable(f"nothing says what came of the refund of order {refund.order_id}")


class NoMailer:
    """Takes every letter and sends none: what a replay gives its handlers."""

    def send(self, letter: Letter) -> None:
        """See `Mailer`."""


def _provider(settings: Settings) -> AbstractContextManager[PaymentProvider] | AbstractAsyncContextManager[PaymentProvider]:
    return _remote(settings) if settings.variables.get("psp_url") else _own(settings)


@asynccontextmanager
async def _remote(settings: Settings) -> AsyncIterator[PaymentProvider]:
    from topologies.orders import provider  # noqa: PLC0415  # it takes this module's words, and aiohttp half a second

    faults = Faults.load(settings)
    async with provider.connect(settings) as remote:
        yield TroubledProvider(remote, Troubles(faults)) if faults else remote


@contextmanager
def _own(settings: Settings) -> Iterator[PaymentProvider]:
    text = settings.variables.get("decline_share", str(DECLINE_SHARE))
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise SetupError(f"{text!r} is no share", where="TOWPATH_DECLINE_SHARE", fix="use a number from 0 to 1, e.g. 0.02")
    faults = Faults.load(settings)
    provider = OwnProvider(share)
    yield TroubledProvider(provider, Troubles(faults)) if faults else provider


@contextmanager
def _mailer(settings: Settings) -> Iterator[Mailer]:
    faults = Faults.load(settings)
    path = Path(settings.variables.get("notifications", settings.directory / "notifications.jsonl"))
    try:
        mailer = FileMailer(path)
    except OSError as error:
        raise SetupError(
            f"cannot write to {path}: {error.strerror}", where="TOWPATH_NOTIFICATIONS", fix="name a file that can be written"
        ) from None
    try:
        yield TroubledMailer(mailer, Troubles(faults)) if faults else mailer
    finally:
        mailer.close()


psp: Port[PaymentProvider] = Port("psp", _provider, recorded=RecordedProvider)
"""The payment provider: the one at TOWPATH_PSP_URL (see `provider.py`), or else one within the process that moves no money
and declines TOWPATH_DECLINE_SHARE (default 0.02) of the orders. See also `faults.py`."""

mail: Port[Mailer] = Port("mail", _mailer, recorded=lambda _: NoMailer())
"""The mailer; ours appends to TOWPATH_NOTIFICATIONS (default: notifications.jsonl in TOWPATH_DIR). See also `faults.py`."""
