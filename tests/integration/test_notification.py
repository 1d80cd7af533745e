"""Webhooks and e-mail against real servers: what arrives, who may read it, and what a bad other side can do."""

import asyncio
import json
import ssl
import subprocess
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.compression_utils import ZLibDecompressor
from aiosmtpd.controller import Controller
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from streams.config import Settings
from streams.errors import Reject, Retry, SetupError
from tests.support.workers import free_port
from topologies.orders import outgoing
from topologies.orders.demo.receiver import Receiver
from topologies.orders.events import DeliveryRequested
from topologies.orders.outgoing import connect
from topologies.orders.post import NoPost, Post, SmtpPost, post, server
from topologies.orders.signature import secret
from topologies.orders.subscribe import new_secret
from topologies.orders.subscribers import Subscriber

AT = datetime(2024, 5, 31, 8, 30, tzinfo=UTC)
TOLD = DeliveryRequested(
    "sub_1",
    "msg_1",
    "e1",
    "rejected",
    AT,
    "o1",
    "c1",
    "out-of-stock",
    "We cannot deliver",
    "We are sorry: no Tee für 5 €.",
    lead=True,
)
OLD, NEW = new_secret(), new_secret()
ALLOW = "127.0.0.1"

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def listening(answer: Answer | web.Application, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server that answers everything so. Yields its URL."""
    if isinstance(answer, web.Application):
        app = answer
    else:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        yield f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


def to(url: str, *secrets: str) -> Subscriber:
    return Subscriber("sub_1", "c1", url, secrets or (NEW,))


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


def answers(status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers=headers, body=body)

    return answer


def test_a_webhook_is_a_cloud_event_that_a_judge_who_is_not_ours_verifies() -> None:
    got: list[tuple[dict[str, str], bytes]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        got.append(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
        return web.Response(status=202)

    async def test() -> None:
        async with listening(answer) as url, connect(ALLOW) as hooks:
            assert await hooks.send(to(url), TOLD)
            assert await hooks.send(to(url), TOLD)

    run(test())
    (headers, body), (again, same) = got
    assert Webhook(NEW).verify(body.decode(), headers) == json.loads(body)
    with pytest.raises(WebhookVerificationError):
        Webhook(OLD).verify(body.decode(), headers)
    assert headers["content-type"].partition(";")[0] == "application/cloudevents+json"
    assert json.loads(body) == {
        "specversion": "1.0",
        "id": "e1",
        "source": "/towpath/orders",
        "type": "towpath.order.rejected",
        "subject": "o1",
        "time": "2024-05-31T08:30:00Z",
        "datacontenttype": "application/json",
        "data": {
            "order_id": "o1",
            "customer_id": "c1",
            "code": "out-of-stock",
            "closing": None,
            "subject": "We cannot deliver",
            "message": "We are sorry: no Tee für 5 €.",
        },
    }
    assert (again["webhook-id"], same) == (headers["webhook-id"], body) == ("msg_1", body)


def test_an_order_without_a_number_makes_an_event_without_a_subject() -> None:
    assert "subject" not in json.loads(outgoing.cloud_event(msgspec.structs.replace(TOLD, order_id="")))


@pytest.mark.parametrize("known", [OLD, NEW], ids=["old", "new"])
def test_while_a_secret_is_changed_a_receiver_may_know_either(known: str) -> None:
    receiver = Receiver([secret(known, "test")])

    async def test() -> None:
        async with listening(receiver.application) as url, connect(ALLOW) as hooks:
            assert await hooks.send(to(url, NEW, OLD), TOLD)
            assert await hooks.send(to(url, NEW, OLD), TOLD)
            with pytest.raises(Retry, match="answers 400"):
                await hooks.send(to(url, new_secret()), TOLD)

    run(test())
    assert receiver.counts == {"taken": 1, "repeated": 1, "refused": 1}


@pytest.mark.parametrize(
    ("status", "headers", "after"),
    [
        (429, {"Retry-After": "17"}, 17.0),
        (503, {"Retry-After": "0"}, 0.0),
        (503, {"Retry-After": "999999999999"}, 3600.0),
        (429, {"Retry-After": "soon"}, None),
        (500, {}, None),
        (404, {}, None),
        (401, {}, None),
    ],
)
def test_whatever_is_not_taken_is_tried_again(status: int, headers: dict[str, str], after: float | None) -> None:
    async def test() -> None:
        async with listening(answers(status, headers)) as url, connect(ALLOW) as hooks:
            with pytest.raises(Retry, match=f"sub_1 answers {status}") as caught:
                await hooks.send(to(url), TOLD)
            assert caught.value.after == after

    run(test())


def test_410_is_no_more() -> None:
    async def test() -> None:
        async with listening(answers(410)) as url, connect(ALLOW) as hooks:
            assert not await hooks.send(to(url), TOLD)

    run(test())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    visits: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        visits.append(request.path)
        return web.Response(status=status, headers={"Location": "/inside"})

    async def test() -> None:
        async with listening(answer) as url, connect(ALLOW) as hooks:
            with pytest.raises(Retry, match=f"answers {status}"):
                await hooks.send(to(url), TOLD)

    run(test())
    assert visits == ["/"]


def test_nothing_that_a_receiver_says_is_kept() -> None:
    cookies: list[str | None] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        cookies.append(request.headers.get("cookie"))
        return web.Response(status=500, headers={"Set-Cookie": "a=b"}, text="the password of the database is 123")

    async def test() -> None:
        async with listening(answer) as url, connect(f"{ALLOW},::1") as hooks:
            subscriber = to(url.replace(ALLOW, "localhost"))  # an address has no cookies anyhow
            for _ in range(2):
                with pytest.raises(Retry) as caught:
                    await hooks.send(subscriber, TOLD)
                assert str(caught.value) == "subscriber sub_1 answers 500"

    run(test())
    assert cookies == [None, None]


def test_a_body_without_end_is_not_read() -> None:
    sent = [0]

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Encoding": "gzip"})
        await response.prepare(request)
        while sent[0] < 2**30:
            await response.write(b"\0" * 65_536)
            sent[0] += 65_536
        return response

    async def test() -> None:
        async with listening(answer) as url, connect(ALLOW) as hooks:
            assert await hooks.send(to(url), TOLD)

    run(test())
    assert sent[0] < 64 * 2**20, "what is not in some buffer was never sent"


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_bomb_in_an_answer_is_not_inflated(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    bits = {"gzip": 31, "deflate": 15}[encoding]
    packer = zlib.compressobj(9, zlib.DEFLATED, bits)
    bomb = packer.compress(bytes(32 * 2**20)) + packer.flush()
    inflated: list[int] = []

    class Watched(ZLibDecompressor):
        def decompress_sync(self, data: Any, max_length: int = 0) -> bytes:
            inflated.append(len(data))
            return super().decompress_sync(data, max_length)

    monkeypatch.setattr("aiohttp.http_parser.ZLibDecompressor", Watched)

    async def test() -> None:
        async with (
            listening(answers(200, {"Content-Encoding": encoding}, bomb)) as url,
            connect(ALLOW) as hooks,
        ):
            assert await hooks.send(to(url), TOLD)

    run(test())
    assert (len(bomb) < 64 * 2**10, inflated) == (True, [])


def test_who_says_nothing_is_waited_for_no_longer_than_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "DEADLINE", 0.3)

    async def answer(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        try:
            while True:  # a header without end, a byte at a time: each is some progress
                writer.write(b"H")
                await writer.drain()
                await asyncio.sleep(0.05)  # the other side's pace
        except (ConnectionError, asyncio.CancelledError):
            writer.close()

    async def test() -> None:
        dripping = await asyncio.start_server(drip, "127.0.0.1", 0)
        port = dripping.sockets[0].getsockname()[1]
        async with listening(answer) as silent, connect(ALLOW) as hooks:
            for url in (silent, f"http://127.0.0.1:{port}/", f"http://127.0.0.1:{free_port()}/"):
                began = time.monotonic()
                with pytest.raises(Retry, match="no answer"):
                    await hooks.send(to(url), TOLD)
                assert time.monotonic() - began < 5
        dripping.close()

    run(test())


def test_a_certificate_that_nobody_has_signed_is_not_believed(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    make += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(make, check=True, capture_output=True)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    visits: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        visits.append(request.path)
        return web.Response()

    async def test() -> None:
        async with listening(answer, tls) as url, connect(ALLOW) as hooks:
            with pytest.raises(Retry, match="no answer"):
                await hooks.send(to(url), TOLD)

    run(test())
    assert visits == []


def test_a_secret_that_is_none_is_a_case_and_is_not_told() -> None:
    async def test() -> None:
        async with listening(answers(200)) as url, connect(ALLOW) as hooks:
            for wrong in ("hunter2", "whsec_c2hvcnQ="):
                with pytest.raises(Reject) as caught:
                    await hooks.send(to(url, wrong), TOLD)
                assert wrong not in str(caught.value)

    run(test())


# -- e-mail -------------------------------------------------------------------------------------------------------------


class Letterbox:
    """A mail server's other half. `reply` is what it says to the message, `to_whom` what it says to its recipient."""

    def __init__(self) -> None:
        self.got: list[EmailMessage] = []
        self.reply = "250 taken"
        self.to_whom = "250 known"

    async def handle_RCPT(self, _: Any, __: Any, envelope: Any, address: str, ___: Any) -> str:  # noqa: N802  # aiosmtpd's name
        if self.to_whom.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.to_whom

    async def handle_DATA(self, _: Any, __: Any, envelope: Any) -> str:  # noqa: N802  # as above
        letter = BytesParser(policy=default).parsebytes(envelope.content)
        assert isinstance(letter, EmailMessage)
        letter["X-To"] = ",".join(envelope.rcpt_tos)
        self.got.append(letter)
        return self.reply


@pytest.fixture
def box() -> Iterator[tuple[Letterbox, Post]]:
    letterbox = Letterbox()
    controller = Controller(letterbox, hostname="127.0.0.1", port=free_port())
    controller.start()
    yield letterbox, SmtpPost(server(f"smtp://127.0.0.1:{controller.port}", "shop@shop.example"))
    controller.stop()


def mail(post: Post, told: DeliveryRequested = TOLD) -> None:
    asyncio.run(post.send(Subscriber("sub_1", "c1", "mailto:c1@home.example", ()), told))


def test_an_email_arrives_as_it_was_written_and_again_under_the_same_id(box: tuple[Letterbox, Post]) -> None:
    letterbox, post = box
    mail(post)
    mail(post)
    first, again = letterbox.got
    assert (first["X-To"], first["To"], first["From"]) == ("c1@home.example", "c1@home.example", "shop@shop.example")
    assert (first["Subject"], first.get_content().strip()) == (TOLD.subject, TOLD.message)
    assert first["Message-ID"] == again["Message-ID"] == "<msg_1@shop.example>"
    assert first["Auto-Submitted"] == "auto-generated"


def test_an_order_id_makes_no_header(box: tuple[Letterbox, Post]) -> None:
    letterbox, post = box
    mail(post, msgspec.structs.replace(TOLD, subject="Your order 1\r\nBcc: all@home.example\n\nBuy!\x00\u2028é"))
    (letter,) = letterbox.got
    assert letter["Bcc"] is None
    assert letter["X-To"] == "c1@home.example"
    assert letter["Subject"].startswith("Your order 1 Bcc: all@home.example Buy!")
    assert letter.get_content().strip() == TOLD.message


@pytest.mark.parametrize(
    ("reply", "to_whom", "verdict"),
    [
        ("451 later", "250 known", Retry),
        ("550 never", "250 known", Reject),
        ("250 taken", "450 full", Retry),
        ("250 taken", "550 unknown", Reject),
    ],
)
def test_a_server_that_does_not_take_it_says_whether_it_ever_will(
    box: tuple[Letterbox, Post], reply: str, to_whom: str, verdict: type[Exception]
) -> None:
    letterbox, post = box
    letterbox.reply, letterbox.to_whom = reply, to_whom
    with pytest.raises(verdict, match="subscriber sub_1: the mail server does not take it"):
        mail(post)


def test_a_server_that_is_away_or_not_known_may_be_back_later() -> None:
    with pytest.raises(Retry, match="does not take it"):
        mail(SmtpPost(server(f"smtp://127.0.0.1:{free_port()}", "shop@shop.example")))
    with pytest.raises(Retry, match="TOWPATH_SMTP_URL"):
        mail(NoPost())


@pytest.mark.parametrize(
    ("url", "sender", "where"),
    [
        ("mail.shop.example", "shop@shop.example", "TOWPATH_SMTP_URL"),
        ("http://mail.shop.example", "shop@shop.example", "TOWPATH_SMTP_URL"),
        ("smtp://user:hunter2@mail.shop.example:port", "shop@shop.example", "TOWPATH_SMTP_URL"),
        ("smtp://mail.shop.example", "", "TOWPATH_MAIL_FROM"),
        ("smtp://mail.shop.example", "shop", "TOWPATH_MAIL_FROM"),
        ("smtp://mail.shop.example", "shop@shop.example\nBcc: x", "TOWPATH_MAIL_FROM"),
    ],
)
def test_a_setting_that_is_no_mail_server_is_named(url: str, sender: str, where: str) -> None:
    settings = Settings.load({"TOWPATH_SMTP_URL": url, "TOWPATH_MAIL_FROM": sender})
    with pytest.raises(SetupError) as caught, post.connect(settings):  # type: ignore[union-attr]  # ours is synchronous
        pass
    assert caught.value.where == where
    assert "hunter2" not in str(caught.value)
