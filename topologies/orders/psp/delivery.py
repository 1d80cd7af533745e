"""The provider's webhooks on their way, and the clock that settles payments.

The one rule: a webhook is sent until it is taken, each time signed anew; it may come late, twice and out of order.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Final

import aiohttp
import msgspec

from topologies.orders.psp.books import Webhook
from topologies.orders.psp.ledger import Ledger
from topologies.orders.psp.terms import chosen
from topologies.orders.signature import sign

log = logging.getLogger("psp.delivery")

_TICK: Final = 0.2  # seconds between two looks at what is due
_AT_ONCE: Final = 50
_TIMEOUT: Final = aiohttp.ClientTimeout(total=10)
_FIRST: Final = 0.5  # seconds until the second attempt; doubled each time
_CEILING: Final = 600.0
_ATTEMPTS: Final = 20  # about two hours
_LATE: Final = 1.0  # seconds


class Target(msgspec.Struct, frozen=True):
    """Where webhooks go, and the key that signs them. `disorder` is the share of them that is late, and of those sent twice."""

    url: str
    key: bytes
    disorder: float = 0.05


async def deliver(ledger: Ledger, target: Target | None) -> None:
    """Settle what is due, and send what is due, until cancelled."""
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
        while True:
            busy = await asyncio.to_thread(ledger.settle)
            if target is not None:
                due = await asyncio.to_thread(_due, ledger)
                sent = await asyncio.gather(*(_send(session, target, webhook) for webhook in due))
                await asyncio.to_thread(_note, ledger, target, list(zip(due, sent, strict=True)))
                busy += len(due)
            await asyncio.sleep(0 if busy else _TICK)


def _due(ledger: Ledger) -> list[Webhook]:
    with ledger.books() as books:
        return books.due(_AT_ONCE)


async def _send(session: aiohttp.ClientSession, target: Target, webhook: Webhook) -> bool | None:
    """Whether it was taken; `None` for one that is held back to be late."""
    if webhook.attempts == 0 and chosen("late ", webhook.id, target.disorder):
        return None
    headers = {"content-type": "application/json", **sign(target.key, webhook.id, int(time.time()), webhook.body)}
    try:
        async with session.post(target.url, data=webhook.body, headers=headers, allow_redirects=False) as reply:
            return 200 <= reply.status < 300
    except (aiohttp.ClientError, OSError, TimeoutError):
        return False


def _note(ledger: Ledger, target: Target, sent: Sequence[tuple[Webhook, bool | None]]) -> None:
    """Write down what became of them."""
    if not sent:
        return
    now = time.time()
    with ledger.books() as books:
        for webhook, taken in sent:
            if taken is None:
                books.postpone(webhook, int((now + _LATE) * 1000))
            elif taken and not (webhook.attempts < 2 and chosen("twice ", f"{webhook.id}{webhook.attempts}", target.disorder)):
                books.done(webhook)
            elif taken or webhook.attempts + 1 < _ATTEMPTS:
                wait = _LATE if taken else min(_CEILING, _FIRST * 2**webhook.attempts)
                books.postpone(webhook, int((now + wait) * 1000))
            else:
                log.error("webhook %s was not taken in %d attempts and is given up", webhook.id, _ATTEMPTS)
                books.done(webhook)
