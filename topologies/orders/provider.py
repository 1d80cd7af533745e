"""The payment provider over HTTP, behind the port `psp`.

The one rule: silence is no answer. Who got none asks what has become of it, by the key, before asking again for the same.
"""

import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import msgspec

from streams.calls import call
from streams.config import Settings
from streams.errors import Reject, Retry, SetupError, Unavailable
from topologies.orders.breaker import Breaker
from topologies.orders.ports import Captured, Charge, Declined, Refund
from topologies.orders.retry_after import retry_after

log = logging.getLogger("towpath.psp")

_NAME: Final = "psp"
_LIMIT: Final = 65_536  # bytes of an answer
_LONGEST: Final = 300.0  # seconds that we let the provider put us off
_BUSY: Final = 1.0  # seconds until an idempotency key that is at work is tried again
_DOUBTFUL: Final = 10_000


class _Payment(msgspec.Struct):
    id: str
    state: str
    code: str | None = None
    reason: str | None = None


class _Payments(msgspec.Struct):
    data: list[_Payment]


class _Error(msgspec.Struct):
    code: str
    message: str


class _Complaint(msgspec.Struct):
    error: _Error


class _Unknown(Exception):
    """A call without an answer that says what has become of it."""


class HttpProvider:
    """See `PaymentProvider`. `breaker` says whether the provider is asked at all."""

    def __init__(self, session: aiohttp.ClientSession, url: str, breaker: Breaker) -> None:
        """`session` has the API key and the deadlines."""
        self.breaker = breaker
        self._session = session
        self._url = f"{url.rstrip('/')}/v1/payments"
        self._doubtful: dict[str, None] = {}  # keys that were asked for and of which nothing is known; the oldest first

    def state(self) -> str:
        """See `streams.stage.Telling`: the breaker's."""
        return self.breaker.state.value

    async def capture(self, charge: Charge) -> Captured | Declined:
        """Charge once per `charge.key`.

        Raises `Unavailable` when no answer is to be had, `Retry` while an earlier request of this key is at work, and
        `Reject` for what the provider will never do.
        """
        if charge.key in self._doubtful:
            found = await self._find(charge)
            if found is not None:
                return found
        try:
            return self._known(charge, await self._pay(charge))
        except _Unknown as error:
            self._doubt(charge)
            log.warning("order %s: %s; asking what became of it", charge.order_id, error)
        found = await self._find(charge)
        if found is not None:
            return found
        try:  # nothing became of it, and the key sees to it that it is the same should it still be on its way
            return self._known(charge, await self._pay(charge))
        except _Unknown:
            raise Unavailable(_NAME) from None

    async def refund(self, refund: Refund) -> None:
        """Give a payment back once per `refund.key`. Raises as `capture` does.

        One that was given back already, by whatever hand, is given back.
        """
        path = f"/{quote(refund.payment_id, safe='')}"
        try:
            refusal = await self._give_back(path, refund)
            if refusal is not None and await self._state(path) != "refunded":
                raise refusal
        except _Unknown as error:
            log.warning("order %s: %s; asking what became of the refund", refund.order_id, error)
            try:
                refusal = None if await self._state(path) == "refunded" else await self._give_back(path, refund)
            except _Unknown:
                raise Unavailable(_NAME) from None
            if refusal is not None:
                raise refusal from None

    async def _give_back(self, path: str, refund: Refund) -> Exception | None:
        """Ask for the refund. What keeps the provider from it, if anything does."""
        wish, headers = {"amount_minor": refund.amount_minor}, {"idempotency-key": refund.key}
        status, body = await self._call("POST", f"{path}/refund", json=wish, headers=headers)
        if status == 409:
            raise Retry("an earlier request for this refund is at work", after=_BUSY)
        return None if status == 200 else _refusal(status, body)

    async def _state(self, path: str) -> str:
        """Where a payment stands."""
        status, body = await self._call("GET", path)
        if status != 200:
            raise _refusal(status, body)
        payment: _Payment = _decode(body, _Payment)
        return payment.state

    async def _find(self, charge: Charge) -> Captured | Declined | None:
        """What has become of a key, if anything has."""
        try:
            status, body = await self._call("GET", "", params={"idempotency_key": charge.key})
            if status != 200:
                raise _refusal(status, body)
            found = _decode(body, _Payments).data
        except _Unknown:
            raise Unavailable(_NAME) from None
        return self._known(charge, _outcome(found[0])) if found else None

    async def _pay(self, charge: Charge) -> Captured | Declined:
        wish = {
            "order_id": charge.order_id,
            "customer_id": charge.customer_id,
            "amount_minor": charge.amount_minor,
            "currency": charge.currency,
        }
        status, body = await self._call("POST", "", json=wish, headers={"idempotency-key": charge.key})
        if status in (200, 201):
            return _outcome(_decode(body, _Payment))
        if status == 402:
            error = _decode(body, _Complaint).error
            return Declined(error.code, error.message)
        if status == 409:
            raise Retry("an earlier request for this payment is at work", after=_BUSY)
        raise _refusal(status, body)

    def _known(self, charge: Charge, outcome: Captured | Declined) -> Captured | Declined:
        self._doubtful.pop(charge.key, None)
        return outcome

    def _doubt(self, charge: Charge) -> None:
        self._doubtful[charge.key] = None
        if len(self._doubtful) > _DOUBTFUL:  # the key alone is enough for a charge to happen once: this only saves a request
            del self._doubtful[next(iter(self._doubtful))]

    async def _call(
        self, method: str, path: str, *, headers: Mapping[str, str] = MappingProxyType({}), **arguments: Any
    ) -> tuple[int, bytes]:
        """One request through the breaker: status and body. Raises `_Unknown`, or `Unavailable` when we are put off."""
        began = time.monotonic()
        wait = self.breaker.wait(began)
        if wait > 0:
            raise Unavailable(_NAME, after=wait)
        url = self._url + path
        try:
            with call(method, url, _template(path)) as this:
                arguments["headers"] = {**headers, **this.headers}
                async with self._session.request(method, url, allow_redirects=False, **arguments) as reply:
                    this.status = reply.status
                    body = await reply.content.read(_LIMIT + 1)
                    while not reply.content.at_eof() and len(body) <= _LIMIT:
                        body += await reply.content.read(_LIMIT + 1 - len(body))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self.breaker.bad(time.monotonic(), began)
            raise _Unknown(f"no answer ({type(error).__name__})") from None
        if reply.status == 429 or reply.status >= 500:
            self.breaker.bad(time.monotonic(), began)
        else:
            self.breaker.good(time.monotonic())
        if reply.status in (429, 503):
            raise Unavailable(_NAME, after=retry_after(reply.headers.get("retry-after", ""), _LONGEST))
        if reply.status >= 500:
            raise _Unknown(f"answer {reply.status}")
        return reply.status, body


def _template(path: str) -> str:
    """The path as every payment's is."""
    _, *parts = path.split("/")
    return "/".join(["/v1/payments", *("{id}" if number == 0 else part for number, part in enumerate(parts))])


def _outcome(payment: _Payment) -> Captured | Declined:
    if payment.state == "declined":
        return Declined(payment.code or "declined", payment.reason or "The payment was declined.")
    return Captured(payment.id)


def _decode(body: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise _Unknown(f"an answer that is none: {error}") from None


def _refusal(status: int, body: bytes) -> Exception:
    """What a 4xx that is no answer to the customer means for the stage."""
    try:
        error = msgspec.json.decode(body, type=_Complaint).error
    except msgspec.MsgspecError:
        error = _Error(str(status), "no reason given")
    if status in (401, 403):  # true of every payment: hold until somebody has put it right
        log.error("the provider does not take our API key (TOWPATH_PSP_API_KEY): %s", error.message)
        return Unavailable(_NAME)
    return Reject(f"the provider refuses: {error.code}: {error.message}")


@asynccontextmanager
async def connect(settings: Settings) -> AsyncIterator[HttpProvider]:
    """The provider at TOWPATH_PSP_URL, with the key in TOWPATH_PSP_API_KEY and TOWPATH_PSP_TIMEOUT (seconds, default 5).

    Raises `SetupError` for what cannot be one.
    """
    url, key = settings.variables.get("psp_url", ""), settings.variables.get("psp_api_key", "")
    if not url.startswith(("http://", "https://")):
        raise SetupError(f"{url!r} is no URL", where="TOWPATH_PSP_URL", fix="write it as http://127.0.0.1:8600")
    if not key:
        raise SetupError("the provider wants an API key", where="TOWPATH_PSP_API_KEY", fix="set it")
    text = settings.variables.get("psp_timeout", "5")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 15:  # a handler has 60 s and may need three calls
        raise SetupError(f"{text!r} is no deadline", where="TOWPATH_PSP_TIMEOUT", fix="use seconds: above 0, at most 15")
    session = aiohttp.ClientSession(
        headers={"authorization": f"Bearer {key}", "accept-encoding": "identity"},
        auto_decompress=False,  # a short answer may unfold to gigabytes
        timeout=aiohttp.ClientTimeout(total=seconds, connect=min(seconds, 3.0)),
        connector=aiohttp.TCPConnector(limit=64),
    )
    async with session:
        yield HttpProvider(session, url, Breaker())
