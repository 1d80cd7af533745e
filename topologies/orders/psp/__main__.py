"""`python -m topologies.orders.psp`: the provider as a process.

The one rule: it serves on this machine only, and secrets come from the environment, where no list of processes shows them.
"""

import asyncio
import contextlib
import os
import socket
import sys
import time
from pathlib import Path

import click
import msgspec
import uvicorn

from streams.errors import SetupError
from topologies.orders.psp.api import Service
from topologies.orders.psp.delivery import Target, deliver
from topologies.orders.psp.faults import Faults
from topologies.orders.psp.ledger import Ledger, Policy
from topologies.orders.signature import secret

_SHARE = click.FloatRange(0, 1)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110, "show_default": True})
@click.option("--port", type=click.IntRange(0, 65535), default=8600, help="On 127.0.0.1; 0 takes a free one.")
@click.option("--db", type=click.Path(path_type=Path), default=Path(".towpath/psp.db"), help="The ledger, a SQLite file.")
@click.option("--webhook-url", metavar="URL", help="Where each change of a payment is told.")
@click.option("--disorder", type=_SHARE, default=0.05, help="Share of webhooks that come late, and of those that come twice.")
@click.option("--decline-share", type=_SHARE, default=0.02, help="Share of orders that are declined.")
@click.option("--dispute-share", type=_SHARE, default=0.0, help="Share of settled orders that are disputed.")
@click.option("--settle-after", type=click.FloatRange(0), default=86400.0, help="Seconds from capture to settlement.")
@click.option("--faults", default="{}", metavar="JSON", help='Faults to begin with, e.g. \'{"timeouts": 0.05, "hang": 5}\'.')
def main(port: int, db: Path, webhook_url: str | None, disorder: float, faults: str, **policy: float) -> None:  # options
    """Run a payment provider until SIGTERM or Ctrl-C.

    \b
    Variables:
      TOWPATH_PSP_API_KEY         its merchants' API keys, separated by commas; needed
      TOWPATH_PSP_WEBHOOK_SECRET  whsec_… that signs webhooks; needed with --webhook-url

    \b
    Faults may be changed while it runs: PUT /v1/admin/faults with any of
      latency, errors, busy, timeouts, resets, hang, retry_after, down
    """  # noqa: D301  # `\b` is click's mark for a paragraph to be left as it is
    try:
        keys = [key for key in os.environ.get("TOWPATH_PSP_API_KEY", "").split(",") if key]
        if not keys:
            raise SetupError("no API key", where="TOWPATH_PSP_API_KEY", fix="set it: openssl rand -hex 24")
        variable = "TOWPATH_PSP_WEBHOOK_SECRET"
        target = Target(webhook_url, secret(os.environ.get(variable, ""), variable), disorder) if webhook_url else None
        ledger = Ledger(db, Policy(**policy, hooks=target is not None), time.time)
        service = Service(ledger, keys, msgspec.json.decode(faults, type=Faults))
        listener = _listen(port)
    except (SetupError, msgspec.MsgspecError) as error:
        sys.stderr.write(f"psp: {error}\n")
        sys.exit(2)
    try:
        asyncio.run(_serve(service, ledger, target, listener))
    finally:
        ledger.close()


async def _serve(service: Service, ledger: Ledger, target: Target | None, listener: socket.socket) -> None:
    config = uvicorn.Config(
        service.asgi,
        http="h11",  # faults reach for its transport
        lifespan="off",
        proxy_headers=False,
        access_log=False,
        server_header=False,
        log_level="warning",
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    clock = asyncio.create_task(deliver(ledger, target))
    clock.add_done_callback(lambda _: setattr(server, "should_exit", True))  # a provider that settles nothing is none
    sys.stderr.write(f"psp: http://127.0.0.1:{listener.getsockname()[1]}\n")
    sys.stderr.flush()
    await server.serve(sockets=[listener])
    clock.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await clock


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port), backlog=512)
    except OSError as error:
        raise SetupError(f"port {port} is not to be had: {error.strerror}", where="--port", fix="choose another") from None


if __name__ == "__main__":
    main()
