"""Webhooks out: a message is signed and sent to a subscriber's URL.

The one rule: nothing that a receiver answers is believed but its status, nothing of it is kept, and no redirect is followed.
"""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC
from typing import Final, Protocol

import aiohttp
import msgspec

from streams.calls import call
from streams.config import Settings
from streams.errors import Reject, Retry, SetupError
from streams.stage import Port
from topologies.orders.events import DeliveryRequested
from topologies.orders.guard import Guard, Refused, allowed, webhook_url
from topologies.orders.retry_after import retry_after
from topologies.orders.signature import SIGNATURE, secret, sign
from topologies.orders.subscribers import Subscriber

DEADLINE: Final = 8.0  # seconds from the look-up of the name to the answer's status
_LONGEST: Final = 3600.0  # seconds that we let a receiver put us off
_CONTENT: Final = "application/cloudevents+json; charset=utf-8"
_GONE: Final = 410


class Hooks(Protocol):
    """Somebody who sends webhooks."""

    async def send(self, to: Subscriber, told: DeliveryRequested) -> bool:
        """Whether it was taken; False if the receiver wants no more, ever.

        Raises `Retry` when it was not, as far as we know, and `Reject` for a subscriber that nothing may be sent to.
        """
        ...


class HttpHooks:
    """See `Hooks`. `https` reaches public addresses, `http` only those that are allowed by name. See `connect`."""

    def __init__(
        self, https: aiohttp.ClientSession, http: aiohttp.ClientSession, clock: Callable[[], float] = time.time
    ) -> None:
        self._sessions = {"https": https, "http": http}
        self._clock = clock

    async def send(self, to: Subscriber, told: DeliveryRequested) -> bool:
        """See `Hooks`."""
        try:
            url = webhook_url(to.url)
            body = cloud_event(told)
            headers = {"content-type": _CONTENT, **_signed(to, told.delivery_id, int(self._clock()), body)}
            with call("POST", str(url)) as this:
                headers |= this.headers
                async with self._sessions[url.scheme].post(url, data=body, headers=headers, allow_redirects=False) as reply:
                    status = this.status = reply.status
                    wish = reply.headers.get("retry-after", "")
        except SetupError as error:
            raise Reject(f"subscriber {to.subscriber_id}: {error.what}") from None
        except aiohttp.InvalidURL as error:
            raise Reject(f"nothing is sent to subscriber {to.subscriber_id}: this is no URL ({error})") from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            refused = error if isinstance(error, Refused) else getattr(error, "os_error", None)
            if isinstance(refused, Refused):
                raise Reject(f"nothing is sent to subscriber {to.subscriber_id}: {refused}") from None
            raise Retry(f"subscriber {to.subscriber_id}: no answer ({type(error).__name__})") from None
        if status == _GONE:
            return False
        if not 200 <= status < 300:
            raise Retry(f"subscriber {to.subscriber_id} answers {status}", after=retry_after(wish, _LONGEST))
        return True


def cloud_event(told: DeliveryRequested) -> bytes:
    """The body: a CloudEvent 1.0 in JSON (https://github.com/cloudevents/spec, structured mode); the same each time."""
    data = {"order_id": told.order_id, "customer_id": told.customer_id, "code": told.code, "closing": told.closing}
    event = {
        "specversion": "1.0",
        "id": told.event_id,
        "source": "/towpath/orders",
        "type": f"towpath.order.{told.kind}",
        "time": told.at.astimezone(UTC),
        "datacontenttype": "application/json",
        "data": data | {"subject": told.subject, "message": told.message},
    }
    if told.order_id:  # a subject, if there is one, is not empty
        event["subject"] = told.order_id
    return msgspec.json.encode(event)


def _signed(to: Subscriber, webhook_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Signed with each of its secrets: while one is changed for another, a receiver may know only the old one."""
    keys = [secret(text, to.subscriber_id) for text in to.secrets or ("",)]
    headers = [sign(key, webhook_id, timestamp, body) for key in keys]
    return headers[0] | {SIGNATURE: " ".join(one[SIGNATURE] for one in headers)}


@asynccontextmanager
async def connect(allow: str, clock: Callable[[], float] = time.time) -> AsyncIterator[HttpHooks]:
    """Webhooks to public addresses and those in `allow`. Raises `SetupError` for what is no address."""
    networks = allowed(allow)
    async with _session(Guard(networks)) as https, _session(Guard(networks, public=False)) as http:
        yield HttpHooks(https, http, clock)


def _session(guard: Guard) -> aiohttp.ClientSession:
    """No proxy, no cookies from one subscriber to the next, nothing unpacked; what is not read is bounded by the buffer."""
    return aiohttp.ClientSession(
        connector=guard.connector(),
        timeout=aiohttp.ClientTimeout(total=DEADLINE),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        read_bufsize=16_384,
        trust_env=False,
        headers={"user-agent": "Towpath"},
    )


def _connect(settings: Settings) -> AbstractAsyncContextManager[Hooks]:
    return connect(settings.variables.get("webhook_allow", ""))


hooks: Port[Hooks] = Port("hooks", _connect)
"""Webhooks out. TOWPATH_WEBHOOK_ALLOW: addresses and networks that may be sent to though they are not public, or by http."""
