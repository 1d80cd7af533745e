"""Delivery: a message that notification has written is sent to one subscriber.

The one rule: a subscriber gets its messages in order; who cannot be reached keeps nobody else waiting.

Its key is the subscriber, so a message that waits for its next attempt holds up that subscriber's later ones and no other's.
"""

import logging
from typing import Final

from streams.errors import Reject, Retry
from streams.stage import Backoff, Context, Stage
from topologies.orders.events import DeliveryRequested, Ending, NotificationSent
from topologies.orders.outgoing import hooks
from topologies.orders.ports import Letter, mail
from topologies.orders.post import MAILTO, post
from topologies.orders.subscribers import Subscriber, directory

log = logging.getLogger("towpath.delivery")

# Attempts over four hours, never longer than a quarter of one apart: then a subscriber that an operator ends is through.
# A small batch: a subscriber's messages go one after the other, and each may take `DEADLINE`.
delivery = Stage("delivery", retry=Backoff(attempts=26, first=1, ceiling=900), ports=[directory, hooks, post, mail], batch=16)

_ENDINGS: Final = {ending.value: ending for ending in Ending}


@delivery.on
async def deliver(told: DeliveryRequested, ctx: Context) -> NotificationSent | None:
    """Send it, unless the subscriber wants no more; then the customer whose way of hearing it was gets a letter."""
    subscriber = await ctx.use(directory).find(told.subscriber_id)
    if subscriber is None:
        return _by_letter(told, ctx)
    try:
        taken = await _send(subscriber, told, ctx)
    except (Retry, Reject) as error:
        if isinstance(error, Retry) and ctx.attempt < delivery.retry.attempts:
            raise
        await _give_up(subscriber, str(error), ctx)
        if told.lead:
            return _by_letter(told, ctx)
        raise  # it has missed a message: a case
    if not taken:
        await _give_up(subscriber, "it answered 410: gone", ctx)
        return _by_letter(told, ctx)
    return _sent(told)


async def _send(subscriber: Subscriber, told: DeliveryRequested, ctx: Context) -> bool:
    if not subscriber.url.startswith(MAILTO):
        return await ctx.use(hooks).send(subscriber, told)
    await ctx.use(post).send(subscriber, told)
    return True


async def _give_up(subscriber: Subscriber, why: str, ctx: Context) -> None:
    """End a webhook's subscription: its later messages would each wait as long as this one, or be refused as it was.

    An e-mail says little of the next: it may be the server that was away, or this one message that it did not like.
    """
    if subscriber.url.startswith(MAILTO):
        log.warning("subscriber %s was not sent a message: %s", subscriber.subscriber_id, why)
        return
    log.warning("subscriber %s is sent nothing any more: %s", subscriber.subscriber_id, why)
    await ctx.use(directory).end(subscriber.subscriber_id, why)


def _by_letter(told: DeliveryRequested, ctx: Context) -> NotificationSent | None:
    if told.lead:
        letter = Letter(told.event_id, ctx.time, told.order_id, told.customer_id, told.subject, told.message)
        ctx.use(mail).send(letter)
    return _sent(told)


def _sent(told: DeliveryRequested) -> NotificationSent | None:
    """An order's end is told once, by the lead."""
    ending = _ENDINGS.get(told.kind)
    if not told.lead or ending is None:
        return None
    return NotificationSent(told.order_id, told.customer_id, ending, told.subject, told.message, told.code, told.closing)
