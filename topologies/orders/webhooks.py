"""`python -m topologies.orders.webhooks`: the provider's webhooks, taken in and published.

The one rule: nothing of a body is believed before its signature is; what is answered with 200 is on its topic, once.

It publishes what it is told and decides nothing: whether the payment is ours, the stage `settlement` says.
"""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Annotated, Final

import click
import msgspec
from aiohttp import web

from streams.config import Settings
from streams.errors import Aborted, EncodeError, Fenced, SetupError, TowpathError
from streams.logs import set_up
from streams.ops.publish import Notice, Publisher
from topologies.orders import orders
from topologies.orders.events import PaymentDisputed, PaymentSettled
from topologies.orders.money import LARGEST
from topologies.orders.signature import BadSignature, secret, verify

log = logging.getLogger("towpath.webhooks")

PATH: Final = "/webhooks/psp"
EVENTS: Final = (PaymentSettled, PaymentDisputed)
_LIMIT: Final = 65_536  # bytes of a body
_QUEUE: Final = 1000  # webhooks that may wait for Kafka
_BATCH: Final = 200
_PATIENCE: Final = 8.0  # seconds that a sender waits for us; senders give up after 10 or more
_VARIABLE: Final = "TOWPATH_PSP_WEBHOOK_SECRET"

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class _Told(msgspec.Struct):
    id: Text
    order_id: Text
    currency: Text
    moved_minor: Annotated[int, msgspec.Meta(ge=0, le=LARGEST)]


class _Envelope(msgspec.Struct):
    type: str
    timestamp: datetime
    data: msgspec.Raw = msgspec.Raw()


class Intake:
    """Checks webhooks and hands them to a publisher. `keys` are the secrets that are good now: two while one is changed."""

    def __init__(self, publisher: Publisher, keys: Sequence[bytes]) -> None:
        self.failure = ""
        self.stopped = asyncio.Event()
        self.counts = {"published": 0, "repeated": 0, "ignored": 0, "refused": 0}
        self._publisher = publisher
        self._keys = keys
        self._queue: asyncio.Queue[tuple[Notice, asyncio.Future[bool]]] = asyncio.Queue(_QUEUE)
        self._thread = ThreadPoolExecutor(1, "towpath-publisher")

    @property
    def application(self) -> web.Application:
        """What a web server runs."""
        app = web.Application(client_max_size=_LIMIT)
        app.router.add_post(PATH, self._take)
        app.router.add_get("/health", self._health)
        return app

    async def publish(self) -> None:
        """Publish what was taken, as much at once as has come meanwhile, until it is cancelled or fails."""
        while True:
            waiting = [await self._queue.get()]
            while len(waiting) < _BATCH and not self._queue.empty():
                waiting.append(self._queue.get_nowait())
            try:
                call = asyncio.get_running_loop().run_in_executor(
                    self._thread, self._publisher.publish, [notice for notice, _ in waiting], time.time()
                )
                fresh = await call
            except (Aborted, EncodeError) as error:
                log.warning("%d webhooks were not published: %s", len(waiting), error)
                _end(waiting, error)
            except TowpathError as error:
                self.failure = str(error)
                _end(waiting, error)
                self.stopped.set()
                return
            else:
                for (_, answer), new in zip(waiting, fresh, strict=True):
                    self.counts["published" if new else "repeated"] += 1
                    if not answer.done():
                        answer.set_result(new)

    def close(self) -> None:
        """Let go of the thread; what has not been answered comes again."""
        self._publisher.stop()
        self._thread.shutdown(wait=True, cancel_futures=True)

    # -- requests -------------------------------------------------------------------------------------------------------

    async def _take(self, request: web.Request) -> web.Response:
        try:
            notice = await self._notice(request)
        except web.HTTPException as refusal:
            self.counts["refused"] += 1
            response = web.json_response({"error": refusal.text}, status=refusal.status)
            if refusal.status == web.HTTPRequestEntityTooLarge.status_code:
                response.force_close()  # nobody reads the rest
            return response
        if notice is None:
            self.counts["ignored"] += 1
            return web.json_response({"published": False, "why": "of no interest"})
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait((notice, answer))
            new = await asyncio.wait_for(answer, _PATIENCE)
        except (asyncio.QueueFull, TimeoutError, TowpathError):
            return web.json_response({"error": "not published yet; send it again"}, status=503, headers={"Retry-After": "5"})
        return web.json_response({"published": new} | ({} if new else {"why": "it was before"}))

    async def _notice(self, request: web.Request) -> Notice | None:
        """What a request says, `None` if it does not concern us. Raises the HTTP error for one that is not in order."""
        if request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(text="send application/json")
        body = await request.read()  # no more than `client_max_size` of it
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            webhook_id = verify(self._keys, headers, body, time.time())
        except BadSignature as error:
            raise web.HTTPUnauthorized(text=str(error)) from None
        try:
            return _read(webhook_id, body)
        except (msgspec.MsgspecError, RecursionError, OverflowError) as error:  # nested too deep; a time out of range
            raise web.HTTPBadRequest(text=f"this is no event of a payment: {error}") from None

    async def _health(self, _: web.Request) -> web.Response:
        page = {"healthy": not self.failure, "waiting": self._queue.qsize(), "webhooks": self.counts}
        return web.json_response(page, status=503 if self.failure else 200)


def _read(webhook_id: str, body: bytes) -> Notice | None:
    envelope = msgspec.json.decode(body, type=_Envelope)
    if envelope.type not in ("payment.settled", "payment.disputed"):
        return None
    told = msgspec.json.decode(envelope.data, type=_Told)
    at = envelope.timestamp if envelope.timestamp.tzinfo else envelope.timestamp.replace(tzinfo=UTC)
    event = PaymentSettled if envelope.type == "payment.settled" else PaymentDisputed
    return Notice(webhook_id, event(told.order_id, told.id, told.currency, told.moved_minor, at.astimezone(UTC)))


def _end(waiting: Sequence[tuple[Notice, asyncio.Future[bool]]], error: Exception) -> None:
    for _, answer in waiting:
        if not answer.done():
            answer.set_exception(error)


async def serve(settings: Settings, keys: Sequence[bytes], host: str, port: int) -> str:
    """Take webhooks in until SIGTERM or SIGINT. Returns why it ended, if it was not told to.

    Raises `SetupError` for a cluster or a port that is not to be had.
    """
    async with AsyncExitStack() as undo:
        publisher = undo.enter_context(Publisher(settings, orders, EVENTS, now=time.time()))
        intake = Intake(publisher, keys)
        undo.callback(intake.close)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, intake.stopped.set)
        publishing = asyncio.create_task(intake.publish())
        undo.callback(publishing.cancel)
        runner = web.AppRunner(intake.application, access_log=None)
        await runner.setup()
        undo.push_async_callback(runner.cleanup)
        try:
            await web.TCPSite(runner, host, port, shutdown_timeout=2.0).start()
        except OSError as error:
            raise SetupError(f"port {port} is not to be had: {error.strerror}", where="--port", fix="choose another") from None
        log.info("webhooks are taken in at http://%s:%d%s", *runner.addresses[0][:2], PATH)
        await intake.stopped.wait()
        return intake.failure


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110, "show_default": True})
@click.option("--host", default="127.0.0.1", help="The address to listen at. The world reaches it through a proxy with TLS.")
@click.option("--port", type=click.IntRange(0, 65535), default=8601, help="0 takes a free one, which the log names.")
def main(host: str, port: int) -> None:
    """Take in the payment provider's webhooks and publish payments.settled and payments.disputed, each once.

    One process does it: a second one takes over from the first, which then ends with 1. While none runs the provider
    keeps its webhooks and sends them again.

    \b
    Variables:
      TOWPATH_BOOTSTRAP           host:port[,host:port…] of the cluster
      TOWPATH_PSP_WEBHOOK_SECRET  whsec_…; while it is changed two, separated by a space
    """  # noqa: D301  # `\b` is click's mark for a paragraph to be left as it is
    try:
        settings = Settings.load()
        set_up(sys.stderr, settings)
        if not settings.bootstrap:
            raise SetupError("no Kafka is known", where="TOWPATH_BOOTSTRAP", fix="set it, e.g. to what `towpath up` says")
        keys = [secret(text, _VARIABLE) for text in os.environ.get(_VARIABLE, "").split() or [""]]
        failure = asyncio.run(serve(settings, keys, host, port))
    except (SetupError, Fenced) as error:
        sys.stderr.write(f"webhooks: {error}\n")
        sys.exit(2)
    if failure:
        sys.stderr.write(f"webhooks: {failure}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
