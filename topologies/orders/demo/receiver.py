"""`python -m topologies.orders.demo.receiver`: a subscriber of the demo, which takes webhooks, checks and counts them.

The one rule: it shares nothing with the sender but the secret, and counts a webhook once, by its id.
"""

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

import click
import msgspec
from aiohttp import web

from streams.errors import SetupError
from topologies.orders.signature import BadSignature, secret, verify

_VARIABLE: Final = "TOWPATH_RECEIVER_SECRET"
_LIMIT: Final = 65_536  # bytes of a body
_CONTENT: Final = "application/cloudevents+json"


class _Event(msgspec.Struct):
    """What the receiver looks at in a CloudEvent."""

    specversion: str
    id: str
    source: str
    type: str


class Receiver:
    """Takes webhooks signed with one of `keys`. `types` counts what was taken, `counts` also what was repeated or refused."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self.counts = {"taken": 0, "repeated": 0, "refused": 0}
        self.types: Counter[str] = Counter()
        self._keys = keys
        self._seen: set[str] = set()

    @property
    def application(self) -> web.Application:
        """What a web server runs."""
        app = web.Application(client_max_size=_LIMIT)
        app.router.add_post("/", self._take)
        app.router.add_get("/health", self._health)
        return app

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            webhook_id = verify(self._keys, headers, body, time.time())
            event = msgspec.json.decode(body, type=_Event)
        except (BadSignature, msgspec.MsgspecError) as error:
            self.counts["refused"] += 1
            return web.json_response({"error": str(error)}, status=400)
        if request.content_type != _CONTENT or event.specversion != "1.0":
            self.counts["refused"] += 1
            return web.json_response({"error": f"send a CloudEvent 1.0 as {_CONTENT}"}, status=415)
        if webhook_id in self._seen:
            self.counts["repeated"] += 1
        else:
            self._seen.add(webhook_id)
            self.counts["taken"] += 1
            self.types[event.type] += 1
        return web.Response(status=204)

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"webhooks": self.counts, "types": self.types})


async def serve(keys: Sequence[bytes], port: int) -> None:
    """Take webhooks until SIGTERM or SIGINT. Raises `SetupError` for a port that is not to be had."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    runner = web.AppRunner(Receiver(keys).application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, shutdown_timeout=2.0).start()
        await stopped.wait()
    except OSError as error:
        raise SetupError(f"port {port} is not to be had: {error.strerror}", where="--port", fix="choose another") from None
    finally:
        await runner.cleanup()


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--port", type=click.IntRange(1, 65535), default=8602)
def main(port: int) -> None:
    """Take webhooks at http://127.0.0.1:PORT/, signed with TOWPATH_RECEIVER_SECRET; /health counts them."""
    try:
        keys = [secret(text, _VARIABLE) for text in os.environ.get(_VARIABLE, "").split() or [""]]
        asyncio.run(serve(keys, port))
    except SetupError as error:
        sys.stderr.write(f"receiver: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
