"""What no webhook is sent to, in whatever spelling: refused with a reason, and nothing is even connected to."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from streams.errors import Reject, Retry, SetupError
from tests.support.psp import SECRET, Mailbox
from topologies.orders.events import DeliveryRequested
from topologies.orders.guard import Guard, Refused, allowed, webhook_url
from topologies.orders.outgoing import connect
from topologies.orders.subscribers import Subscriber

TOLD = DeliveryRequested(
    "sub_1", "msg_1", "e1", "confirmed", datetime(2024, 5, 31, tzinfo=UTC), "o1", "c1", None, "Subject", "Message", lead=True
)


def send(url: str, allow: str = "") -> bool:
    async def one() -> bool:
        async with connect(allow) as hooks:
            return await hooks.send(Subscriber("sub_1", "c1", url, (SECRET,)), TOLD)

    return asyncio.run(one())


class Door:
    """Listens, and counts who has come."""

    def __init__(self) -> None:
        self.visitors = 0
        self._socket = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._open)
        self._thread.start()

    def _open(self) -> None:
        while True:
            visitor, _ = self._socket.accept()
            word = visitor.recv(4)
            visitor.close()
            if word == b"stop":
                return
            self.visitors += 1

    def close(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port)) as last:
            last.sendall(b"stop")
        self._thread.join()
        self._socket.close()


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    found = Door()
    yield found
    found.close()


AT_HOME = [
    "127.0.0.1",
    "127.255.255.254",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "017700000001",
    "127.0.0.1.",
    "\uff11\uff12\uff17.0.0.1",
    "localhost",
    "LOCALHOST",
    "0",
    "0.0.0.0",  # noqa: S104  # nobody binds to it here
    "[::]",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
]

ELSEWHERE = [
    ("10.1.2.3", "private"),
    ("172.16.0.1", "private"),
    ("192.168.0.1", "private"),
    ("3232235521", "an address in disguise"),
    ("0300.0250.1", "an address in disguise"),
    ("100.64.0.1", "shared by a carrier"),
    ("100.100.100.200", "shared by a carrier"),
    ("169.254.169.254", "link-local"),
    ("0xa9fea9fe", "an address in disguise"),
    ("[::ffff:169.254.169.254]", "link-local"),
    ("168.63.129.16", "metadata"),
    ("192.0.0.192", "reserved for protocols"),
    ("192.0.2.1", "documentation"),
    ("198.18.0.1", "benchmarks"),
    ("224.0.0.1", "multicast"),
    ("255.255.255.255", "broadcast"),
    ("[::127.0.0.1]", "IPv4-compatible"),
    ("[64:ff9b::127.0.0.1]", "loopback"),
    ("[64:ff9b::a00:1]", "private"),
    ("[64:ff9b:1::1]", "NAT64"),
    ("[2002:7f00:1::1]", "6to4"),
    ("[2001:0:7f00:1::1]", "Teredo"),
    ("[fd00:ec2::254]", "private"),
    ("[fc00::1]", "private"),
    ("[fe80::1]", "link-local"),
    ("[fec0::1]", "site-local"),
    ("[ff02::1]", "multicast"),
    ("[2001:db8::1]", "documentation"),
    ("[4000::1]", "not given out"),
]


@pytest.mark.parametrize("scheme", ["https", "http"])
@pytest.mark.parametrize("host", AT_HOME)
def test_no_spelling_of_this_machine_is_connected_to(door: Door, scheme: str, host: str) -> None:
    with pytest.raises(
        Reject,
        match=r"sub_1: .* is (no public address: (loopback|this host)|an address in disguise)",
    ):
        send(f"{scheme}://{host}:{door.port}/")
    assert door.visitors == 0


@pytest.mark.parametrize(("host", "why"), ELSEWHERE)
def test_no_address_that_is_not_public_is_connected_to(host: str, why: str) -> None:
    with pytest.raises(Reject, match=rf"nothing is sent to subscriber sub_1: .* is .*{why}"):
        send(f"https://{host}/")


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_a_public_address_is_good_for_https_alone(address: str) -> None:
    Guard().check(address)
    with pytest.raises(Refused, match="only https"):
        Guard(public=False).check(address)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://shop.example/",
        "file:///etc/passwd",
        "shop.example/hooks",
        "//shop.example/",
        "https://",
        "https:///hooks",
        "https://user:password@shop.example/",
        "https://shop.example@127.0.0.1/",
        "https://shop.example:0/",
        "https://shop.example:65536/",
        "https://[::1/",
        "https://shop.example/" + "x" * 2048,
        "gopher://127.0.0.1:25/_HELO",
        "",
    ],
)
def test_what_is_no_url_of_a_webhook_is_refused(url: str) -> None:
    with pytest.raises(Reject, match="nothing is sent to subscriber sub_1: "):
        send(url)


def test_what_is_allowed_by_name_is_reached_and_its_neighbour_is_not(door: Door) -> None:
    with Mailbox() as mailbox:
        assert send(mailbox.url, "10.0.0.0/8, 127.0.0.1")
        assert len(mailbox.got) == 1
    with pytest.raises(Reject, match=r"127\.0\.0\.2 is no public address: loopback"):
        send(f"http://127.0.0.2:{door.port}/", "10.0.0.0/8, 127.0.0.1")
    assert door.visitors == 0


def test_one_bad_address_spoils_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[Any, ...]] = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 443)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.5", 443)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: told)
    with pytest.raises(Reject, match=r"10\.0\.0\.5 is no public address: private"):
        send("https://innocent.example/")


def test_a_name_that_was_good_is_judged_again_when_it_is_connected_to(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    def later(_: object, address: str) -> None:
        if judged.append(address) or len(judged) > 1:  # type: ignore[func-returns-value]  # it returns None, which is meant
            raise Refused(f"{address} is bad by now")

    judged: list[str] = []
    monkeypatch.setattr(Guard, "check", later)
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", door.port))]
    )
    with pytest.raises(Reject, match="is bad by now"):
        send(f"https://rebound.example:{door.port}/")
    assert judged == ["127.0.0.1"] * 2
    assert door.visitors == 0


def test_a_name_that_is_not_found_now_may_be_found_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    with pytest.raises(Retry, match="no answer"):
        send("https://nowhere.example/")


def test_a_setting_that_is_no_network_is_named() -> None:
    with pytest.raises(SetupError, match="TOWPATH_WEBHOOK_ALLOW"):
        allowed("127.0.0.1/33")
    assert webhook_url("https://shop.example/hooks?a=b").host == "shop.example"
