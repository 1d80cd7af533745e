"""The payment provider of the tests, as a process, and a place that its webhooks go to.

The one rule: whatever was started here is gone at the end; a test asks the books themselves what money moved.
"""

import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from tests.support.workers import ROOT, free_port, wait_for

KEY = "sk_test_0123456789"
SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="  # noqa: S105  # of a test


class Psp:
    """One provider. As a context manager it is stopped at the end; `kill` and `start` are a crash and what comes after it."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.db = directory / "psp.db"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = directory / "psp.log"
        self._arguments = arguments
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TOWPATH_")}
        environment |= {"TOWPATH_PSP_API_KEY": f"{KEY},another", "TOWPATH_PSP_WEBHOOK_SECRET": SECRET}
        command = [sys.executable, "-m", "topologies.orders.psp", "--port", str(self.port), "--db", str(self.db)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *self._arguments], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_for(lambda: self._up, 60, "the provider does not answer", lambda: self._log.read_text("utf-8", "replace"))

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)

    def ask(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any, Any]:
        """A request: status, answer and headers. `key` is the Idempotency-Key."""
        sent = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        sent |= {"Idempotency-Key": key} if key else {}
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        if method == "POST" and data is None:
            data = b""
        sent |= headers or {}
        request = urllib.request.Request(self.url + path, data, sent, method=method)  # noqa: S310  # our own server's
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:  # noqa: S310  # as above
                return reply.status, _page(reply.read()), reply.headers
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _page(error.read()), error.headers

    def faults(self, **faults: float) -> None:
        """Change the weather."""
        assert self.ask("PUT", "/v1/admin/faults", faults)[0] == 200

    def moves(self, kind: str) -> dict[str, list[int]]:
        """Per order the amounts that moved so, by the ledger itself."""
        found: dict[str, list[int]] = {}
        connection = sqlite3.connect(self.db)
        try:
            rows = connection.execute(
                "SELECT order_id, moves.amount_minor FROM moves JOIN payments ON payments.id = payment_id WHERE kind = ?",
                (kind,),
            )
            for order_id, amount in rows:
                found.setdefault(order_id, []).append(amount)
        finally:
            connection.close()
        return found

    @property
    def _up(self) -> bool:
        assert self._process.poll() is None, self._log.read_text("utf-8", "replace")
        try:
            return self.ask("GET", "/health")[0] == 200
        except OSError:
            return False


def _page(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")


class Mailbox:
    """Takes webhooks and keeps them. `status` is what it answers."""

    def __init__(self) -> None:
        self.status = 200
        self.got: list[tuple[dict[str, str], bytes]] = []
        mailbox = self

        class Take(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                mailbox.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(mailbox.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Take)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait_for(self, what: str, count: int, seconds: float = 30) -> list[dict[str, Any]]:
        """Wait for so many webhooks of a type; returns what all of that type say, in the order of their coming."""
        deadline = time.monotonic() + seconds
        while True:
            pages = [json.loads(body) for _, body in list(self.got)]
            found: list[dict[str, Any]] = [page for page in pages if page["type"] == what]
            if len(found) >= count:
                return found
            assert time.monotonic() < deadline, f"{len(found)} of {count} {what}: {[page['type'] for page in pages]}"
            time.sleep(0.02)
