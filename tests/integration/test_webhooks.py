"""Webhooks in: what is taken is on its topic once, on a real Kafka, whatever kills whom; anything else writes nothing."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, Self

import pytest

from streams import topics
from streams.config import Settings
from streams.errors import Aborted
from streams.local import LocalKafka
from streams.ops.publish import Notice, Publisher
from streams.record import Output
from tests.support.psp import SECRET, Psp
from tests.support.reader import Reader
from tests.support.workers import ROOT, free_port, wait_for
from topologies.orders import orders
from topologies.orders.events import PaymentSettled
from topologies.orders.signature import secret, sign
from topologies.orders.webhooks import EVENTS

KEY = secret(SECRET, "here")


class Door:
    """The process that takes webhooks in."""

    def __init__(self, directory: Path, bootstrap: str, secrets: str = SECRET) -> None:
        self.bootstrap = bootstrap
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = directory / f"webhooks-{self.port}.log"
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("TOWPATH_")}
        self._environment |= {"TOWPATH_BOOTSTRAP": bootstrap, "TOWPATH_PSP_WEBHOOK_SECRET": secrets}
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(10)

    def start(self) -> None:
        command = [sys.executable, "-m", "topologies.orders.webhooks", "--port", str(self.port)]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_for(lambda: self.up, 60, "the webhooks' door does not open", lambda: self.log)

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8", "replace")

    @property
    def up(self) -> bool:
        assert self.process.poll() is None, self.log
        try:
            return self.ask("GET", "/health", None, {})[0] == 200
        except OSError:
            return False

    def ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> tuple[int, Any]:
        request = urllib.request.Request(self.url + path, body, dict(headers), method=method)  # noqa: S310  # our own
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:  # noqa: S310  # as above
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def post(self, webhook_id: str, body: bytes, /, **changes: str) -> tuple[int, Any]:
        """A signed webhook of now; `changes` are headers, with `_` for `-`."""
        headers = {"content-type": "application/json", **sign(KEY, webhook_id, int(time.time()), body)}
        return self.ask("POST", "/webhooks/psp", body, headers | {n.replace("_", "-"): v for n, v in changes.items()})


def settled(order_id: str, kind: str = "payment.settled", **changes: Any) -> bytes:
    data = {"id": f"pay_{order_id}", "order_id": order_id, "currency": "EUR", "moved_minor": 500, **changes}
    return json.dumps({"type": kind, "timestamp": "2024-05-01T10:00:00.000Z", "data": data}).encode()


@pytest.fixture(scope="module")
def bootstrap(kafka: LocalKafka) -> str:
    topics.apply(topics.plan(orders), topics.connect(Settings(bootstrap=kafka.bootstrap)))
    return kafka.bootstrap


@pytest.fixture
def door(tmp_path: Path, bootstrap: str) -> Iterator[Door]:
    with Door(tmp_path, bootstrap) as door:
        yield door


def published(bootstrap: str, topic: str, prefix: str) -> list[str]:
    """The keys on a topic that begin so, as a stranger reads them."""
    with Reader(bootstrap, [topic]) as reader:
        reader.to_end()
        keys = [record.key.decode() for record in reader.records[topic]]
    return [key for key in keys if key.startswith(prefix)]


def test_a_webhook_is_published_once_however_often_it_comes(door: Door) -> None:
    assert door.post("msg_a", settled("once-a")) == (200, {"published": True})
    assert door.post("msg_a", settled("once-a")) == (200, {"published": False, "why": "it was before"})
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: door.post("msg_b", settled("once-b", "payment.disputed")), range(8)))
    assert sorted(page["published"] for _, page in answers) == [False] * 7 + [True]
    assert published(door.bootstrap, "payments.settled", "once-") == ["once-a"]
    assert published(door.bootstrap, "payments.disputed", "once-") == ["once-b"]
    assert door.post("msg_c", settled("once-c", "payment.captured"))[1]["published"] is False
    assert door.post("msg_d", b'{"type": "invoice.paid", "timestamp": "2024-05-01T10:00:00Z", "data": 5}')[0] == 200


def test_a_door_that_is_killed_again_and_again_still_publishes_each_once(door: Door) -> None:
    names = [f"kill-{number}" for number in range(150)]
    taken: set[str] = set()

    def send(name: str) -> None:
        """As a provider does: again until it is taken, and now and then once more."""
        deadline = time.monotonic() + 120
        while name not in taken:
            assert time.monotonic() < deadline, door.log[-3000:]
            try:
                if door.post(f"msg_{name}", settled(name))[0] == 200:
                    taken.add(name)
            except OSError:
                time.sleep(0.05)  # the provider's own pause between two attempts

    with ThreadPoolExecutor(8) as pool:
        sending = [pool.submit(send, name) for name in names]
        for share in (20, 60, 100):
            wait_for(lambda share=share: len(taken) >= share, 60, f"not {share} are taken", lambda: door.log)  # type: ignore[misc]
            door.process.kill()
            door.process.wait(10)
            door.start()
        for one in sending:
            one.result()
    assert door.post("msg_kill-0", settled("kill-0"))[1]["published"] is False, "it remembers what was before it began"
    assert sorted(published(door.bootstrap, "payments.settled", "kill-")) == sorted(names)


def test_a_second_door_takes_over_and_the_first_ends(door: Door, tmp_path: Path) -> None:
    with Door(tmp_path, door.bootstrap) as other:
        assert door.post("msg_e", settled("two-e"))[0] == 503, "fenced: it published nothing"
        assert door.process.wait(20) == 1
        assert other.post("msg_e", settled("two-e")) == (200, {"published": True})
        other.process.send_signal(signal.SIGTERM)
        assert other.process.wait(20) == 0
    assert published(door.bootstrap, "payments.settled", "two-") == ["two-e"]


def test_what_is_not_in_order_is_refused_and_writes_nothing(door: Door) -> None:
    good, old = settled("bad-1"), int(time.time()) - 400
    stale = sign(KEY, "msg_f", old, good)
    refusals = {
        "wrong signature": door.post("msg_f", good, webhook_signature="v1,AAAA"),
        "another's signature": door.post("msg_f", good, **_headers(sign(b"x" * 32, "msg_f", int(time.time()), good))),
        "no signature": door.post("msg_f", good, webhook_signature=""),
        "old timestamp": door.post("msg_f", good, **_headers(stale)),
        "old signature, new timestamp": door.post("msg_f", good, webhook_signature=stale["webhook-signature"]),
        "altered body": door.post("msg_f", good.replace(b"500", b"900"), **_headers(sign(KEY, "msg_f", old + 400, good))),
        "another id": door.post("msg_f", good, webhook_id="msg_g"),
        "wrong content type": door.post("msg_f", good, content_type="text/plain"),
        "10 MiB": _large(door),
        "64 KiB and a byte, in pieces": _chunked(door),
        "no JSON": door.post("msg_h", b"{"),
        "no event": door.post("msg_i", b'{"type": "payment.settled"}'),
        "no order": door.post("msg_j", settled("")),
        "more than a long": door.post("msg_k", settled("bad-k", moved_minor=2**63)),
        "a fraction": door.post("msg_l", settled("bad-l", moved_minor=1.5)),
    }
    assert {what: status for what, (status, _) in refusals.items()} == {
        **dict.fromkeys(list(refusals)[:7], 401),
        "wrong content type": 415,
        "10 MiB": 413,
        "64 KiB and a byte, in pieces": 413,
        **dict.fromkeys(("no JSON", "no event", "no order", "more than a long", "a fraction"), 400),
    }
    assert all(page["error"] for _, page in refusals.values())
    assert door.ask("GET", "/health", None, {})[1]["webhooks"]["published"] == 0
    assert published(door.bootstrap, "payments.settled", "bad-") == []
    assert "Traceback" not in door.log


def _headers(signed: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("-", "_"): value for name, value in signed.items()}


def _large(door: Door) -> tuple[int, Any]:
    """Ten mebibytes, of which a refusal need not read one."""
    try:
        return door.post("msg_m", b" " * (10 * 2**20))
    except OSError:  # it was told to go while it was still talking
        return 413, {"error": "the connection was closed"}


def _chunked(door: Door) -> tuple[int, Any]:
    body = b" " * 65_537
    headers = {"content-type": "application/json", **sign(KEY, "msg_n", int(time.time()), body)}
    request = urllib.request.Request(f"{door.url}/webhooks/psp", iter([body]), headers, method="POST")  # noqa: S310  # our own  # type: ignore[arg-type]
    request.add_header("Transfer-Encoding", "chunked")
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:  # noqa: S310  # as above
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_what_a_provider_tells_of_its_payments_comes_through(door: Door, tmp_path: Path) -> None:
    arguments = (
        "--webhook-url",
        f"{door.url}/webhooks/psp",
        "--settle-after",
        "0",
        "--disorder",
        "0.3",
        "--dispute-share",
        "1",
    )
    names = [f"told-{number}" for number in range(10)]
    with Psp(tmp_path, *arguments, "--decline-share", "0") as psp:
        for name in names:
            wish = {"order_id": name, "customer_id": "c", "amount_minor": 700, "currency": "EUR"}
            assert psp.ask("POST", "/v1/payments", wish, key=name)[0] == 201
        wait_for(
            lambda: door.ask("GET", "/health", None, {})[1]["webhooks"]["published"] >= 20,
            60,
            "not all settlements and disputes have come",
            lambda: door.log,
        )
    for topic in ("payments.settled", "payments.disputed"):
        assert sorted(published(door.bootstrap, topic, "told-")) == sorted(names)


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({}, "TOWPATH_BOOTSTRAP"),
        ({"TOWPATH_BOOTSTRAP": "127.0.0.1:1"}, "TOWPATH_PSP_WEBHOOK_SECRET"),
        ({"TOWPATH_BOOTSTRAP": "127.0.0.1:1", "TOWPATH_PSP_WEBHOOK_SECRET": "letmein"}, "TOWPATH_PSP_WEBHOOK_SECRET"),
        ({"TOWPATH_BOOTSTRAP": "127.0.0.1:1", "TOWPATH_PSP_WEBHOOK_SECRET": SECRET}, "no Kafka answers"),
    ],
)
def test_a_door_that_cannot_open_says_why(environment: dict[str, str], says: str) -> None:
    command = [sys.executable, "-m", "topologies.orders.webhooks", "--port", "0"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, says in done.stderr, "Traceback" in done.stderr) == (2, True, False), done.stderr
    assert "letmein" not in done.stderr


def test_after_an_abort_it_is_known_what_another_has_published_meanwhile(
    bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(bootstrap=bootstrap)
    at, now = datetime.now(UTC), time.time()
    first, second = (Notice(f"again-{name}", PaymentSettled(f"again-{name}", "pay", "EUR", 500, at)) for name in "ab")
    with Publisher(settings, orders, EVENTS, now=now) as publisher:
        sole = publisher._writer

        def aborted(outputs: Sequence[Output]) -> NoReturn:  # noqa: ARG001  # as `SoleWriter.write`
            monkeypatch.undo()
            sole._writer._replace()
            with Publisher(settings, orders, EVENTS, now=now) as other:
                assert other.publish([first], now) == [True]
            raise Aborted("as the broker said")

        monkeypatch.setattr(sole, "write", aborted)
        with pytest.raises(Aborted, match="as the broker said"):
            publisher.publish([first, second], now)
        assert publisher.publish([first, second], now) == [False, True]
    assert sorted(published(bootstrap, "payments.settled", "again-")) == ["again-a", "again-b"]
