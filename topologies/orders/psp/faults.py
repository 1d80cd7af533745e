"""What may go wrong between a merchant and the provider, at will.

The one rule: a fault is between the two; the books behind it are right. Which request it befalls follows from its
Idempotency-Key and how often that has come, so that a run can be told beforehand.
"""

import asyncio
import contextlib
import json
import socket
import struct
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from topologies.orders.psp.terms import chosen, complaint

_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s; a close is an RST then


class Faults(msgspec.Struct, forbid_unknown_fields=True):
    """Shares are of requests that would move money, from 0 to 1; times are in seconds.

    `latency` is what each takes longer. `errors` are answered 500 with nothing done, `busy` 429 with `retry_after`; of
    `timeouts` and `resets` all is done and no answer comes: a timeout keeps the line open for `hang`. `down`: everything
    is answered 503 with `retry_after`.
    """

    latency: float = 0.0
    errors: float = 0.0
    busy: float = 0.0
    timeouts: float = 0.0
    resets: float = 0.0
    hang: float = 30.0
    retry_after: int = 1
    down: bool = False

    def __post_init__(self) -> None:
        for name in ("errors", "busy", "timeouts", "resets"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share, from 0 to 1")
        if not (0 <= self.latency <= 60 and 0 <= self.hang <= 600 and 0 <= self.retry_after <= 3600):
            raise ValueError("latency is 0 to 60 s, hang 0 to 600, retry_after 0 to 3600")


class Weather:
    """An ASGI application around another, with faults that may be changed while it runs."""

    def __init__(self, app: ASGIApp, faults: Faults) -> None:
        self.faults = faults
        self._app = app
        self._seen: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or not."""
        faults = self.faults
        if scope["type"] != "http" or scope["path"].startswith("/v1/admin/"):
            await self._app(scope, receive, send)
        elif faults.down:
            await _answer(send, 503, "unavailable", "We are down.", faults.retry_after)
        elif scope["method"] != "POST":
            await self._app(scope, receive, send)
        else:
            await self._moving(_header(scope, b"idempotency-key"), (scope, receive, send))

    async def _moving(self, key: str, call: tuple[Scope, Receive, Send]) -> None:
        faults, (scope, receive, send) = self.faults, call
        self._seen[key] += 1
        name = f"{key} {self._seen[key]}"
        if chosen("errors ", name, faults.errors):
            await _answer(send, 500, "internal", "Something broke.")
        elif chosen("busy ", name, faults.busy):
            await _answer(send, 429, "too-many-requests", "Not so fast.", faults.retry_after)
        elif chosen("timeouts ", name, faults.timeouts):
            await self._app(scope, receive, _nobody)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(_gone(receive), faults.hang)
            await _reset(receive, send)
        elif chosen("resets ", name, faults.resets):
            await self._app(scope, receive, _nobody)
            await _reset(receive, send)
        else:
            await self._app(scope, receive, send)


async def _nobody(message: Message) -> None:
    """Where answers go that nobody gets."""


async def _answer(send: Send, status: int, code: str, message: str, after: int | None = None) -> None:
    headers: Sequence[tuple[bytes, bytes]] = [(b"content-type", b"application/json")]
    if after is not None:
        headers = [*headers, (b"retry-after", str(after).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(complaint(code, message)).encode()})


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


async def _gone(receive: Receive) -> None:
    """Wait until the other side is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _reset(receive: Receive, send: Any) -> None:
    """Break the connection. ASGI has no word for it: uvicorn's `send` belongs to the cycle that holds the transport."""
    transport = send.__self__.transport
    if not transport.is_closing():
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()
    await _gone(receive)
