"""The port `psp`: one suite for the provider within the process and the one over HTTP; and what HTTP alone can do to us."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, TypeVar

import pytest
from aiohttp import web

from streams.config import Settings
from streams.errors import Reject, Retry, SetupError, Unavailable
from streams.standing import states
from tests.support.psp import KEY, Psp
from topologies.orders.breaker import Circuit
from topologies.orders.faults import Faults, Troubles
from topologies.orders.ports import Captured, Charge, Declined, OwnProvider, PaymentProvider, TroubledProvider
from topologies.orders.ports import psp as port
from topologies.orders.provider import HttpProvider, connect

T = TypeVar("T")
SHARE = 0.3


@pytest.fixture(scope="module")
def psp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Psp]:
    with Psp(tmp_path_factory.mktemp("psp"), "--decline-share", str(SHARE)) as psp:
        yield psp


def settings(url: str, key: str = KEY, timeout: str = "10") -> Settings:
    return Settings(variables={"psp_url": url, "psp_api_key": key, "psp_timeout": timeout})


@pytest.fixture(params=["own", "http"])
def opened(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Runs a coroutine function with an open provider."""

    def run(work: Callable[[PaymentProvider], Coroutine[Any, Any, T]]) -> T:
        if request.param == "own":
            return asyncio.run(work(OwnProvider(SHARE)))
        return remote(request.getfixturevalue("psp").url, work)

    return run


def remote(url: str, work: Callable[[HttpProvider], Coroutine[Any, Any, T]], **how: str) -> T:
    async def run() -> T:
        async with connect(settings(url, **how)) as provider:
            return await work(provider)

    return asyncio.run(run())


def charge(key: str, order_id: str | None = None) -> Charge:
    return Charge(key, order_id or key, "c1", 500, "EUR")


GOOD = [name for name in map(str, range(100)) if not OwnProvider(SHARE).declines(name)]
BAD = [name for name in map(str, range(100)) if OwnProvider(SHARE).declines(name)]


# -- both ---------------------------------------------------------------------------------------------------------------


def test_one_key_is_one_charge_also_for_another_process(opened: Callable[..., Any]) -> None:
    async def twice(provider: PaymentProvider) -> list[Captured | Declined]:
        return [await provider.capture(charge("k1", GOOD[0])), await provider.capture(charge("k1", GOOD[0]))]

    first, second = opened(twice)
    assert isinstance(first, Captured)
    assert first == second == opened(lambda provider: provider.capture(charge("k1", GOOD[0])))


def test_another_key_is_another_charge(opened: Callable[..., Any]) -> None:
    async def both(provider: PaymentProvider) -> list[Captured | Declined]:
        return [await provider.capture(charge(key, GOOD[1])) for key in ("k2", "k3")]

    first, second = opened(both)
    assert isinstance(first, Captured)
    assert isinstance(second, Captured)
    assert first.payment_id != second.payment_id


def test_a_declined_charge_stays_declined_and_says_why(opened: Callable[..., Any]) -> None:
    async def twice(provider: PaymentProvider) -> list[Captured | Declined]:
        return [await provider.capture(charge("k4", BAD[0])) for _ in range(2)]

    assert opened(twice) == [Declined("card-declined", "Your bank declined the payment.")] * 2


def test_many_at_once_are_each_charged(opened: Callable[..., Any]) -> None:
    async def many(provider: PaymentProvider) -> list[Captured | Declined]:
        return await asyncio.gather(*(provider.capture(charge(f"many {name}", name)) for name in GOOD))

    outcomes = opened(many)
    assert len({outcome.payment_id for outcome in outcomes}) == len(GOOD)


# -- over HTTP ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("faults", [{"timeouts": 1, "hang": 30}, {"resets": 1}, {"timeouts": 1, "hang": 0.1}])
def test_silence_after_a_charge_is_asked_about_and_charged_once(psp: Psp, faults: dict[str, float]) -> None:
    keys = [f"{faults} {name}" for name in (GOOD[2], BAD[1])]
    psp.faults(**faults)
    try:
        charges = [charge(keys[0], GOOD[2]), charge(keys[1], BAD[1])]
        outcomes = remote(psp.url, lambda provider: _each(provider, charges), timeout="1")
    finally:
        psp.faults()
    assert isinstance(outcomes[0], Captured)
    assert isinstance(outcomes[1], Declined)
    assert _found(psp, keys[0])[0]["id"] == outcomes[0].payment_id


async def _each(provider: PaymentProvider, charges: list[Charge]) -> list[Captured | Declined]:
    return [await provider.capture(one) for one in charges]


def _found(psp: Psp, key: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = psp.ask("GET", f"/v1/payments?idempotency_key={key.replace(' ', '%20')}")[1]["data"]
    return found


def test_a_provider_that_breaks_before_it_charges_is_asked_again(psp: Psp) -> None:
    psp.faults(errors=0.5)
    try:
        outcomes = remote(psp.url, lambda provider: _all(provider, [charge(f"e {name}", name) for name in GOOD[:20]]))
    finally:
        psp.faults()
    paid = [outcome for outcome in outcomes if isinstance(outcome, Captured)]
    assert paid, "half of those that failed once went through at the second try"
    assert {type(outcome) for outcome in outcomes} == {Captured, Unavailable}
    assert sum(len(_found(psp, f"e {name}")) for name in GOOD[:20]) == len(paid), "no payment of which we do not know"


async def _all(provider: PaymentProvider, charges: list[Charge]) -> list[Any]:
    return await asyncio.gather(*(provider.capture(one) for one in charges), return_exceptions=True)


def test_a_busy_provider_is_left_alone_for_as_long_as_it_says(psp: Psp) -> None:
    for faults in ({"busy": 1.0, "retry_after": 17}, {"down": True, "retry_after": 17}):
        psp.faults(**faults)
        try:
            with pytest.raises(Unavailable) as caught:
                remote(psp.url, lambda provider: provider.capture(charge("busy", GOOD[3])))
        finally:
            psp.faults()
        assert (caught.value.dependency, caught.value.after) == ("psp", 17.0)
    assert _found(psp, "busy") == []


def test_a_key_that_is_at_work_is_tried_again_later(psp: Psp) -> None:
    psp.faults(latency=2.0)
    try:
        with pytest.raises(Retry) as caught:
            remote(psp.url, lambda provider: provider.capture(charge("slow", GOOD[4])), timeout="0.5")
    finally:
        psp.faults()
    assert caught.value.after == 1.0
    deadline = time.monotonic() + 20
    while not _found(psp, "slow"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    again = remote(psp.url, lambda provider: provider.capture(charge("slow", GOOD[4])))
    assert again == Captured(_found(psp, "slow")[0]["id"])
    assert len(psp.moves("capture")[GOOD[4]]) == 1 + len([key for key in ("many", "e") if _found(psp, f"{key} {GOOD[4]}")])


def test_one_key_for_two_charges_is_a_case_and_a_wrong_api_key_is_not(psp: Psp) -> None:
    remote(psp.url, lambda provider: provider.capture(charge("same", GOOD[5])))
    with pytest.raises(Reject, match="idempotency-key-reused"):
        remote(psp.url, lambda provider: provider.capture(charge("same", GOOD[6])))
    with pytest.raises(Unavailable, match="psp"):
        remote(psp.url, lambda provider: provider.capture(charge("k", GOOD[6])), key="wrong")


def test_a_dead_provider_opens_the_breaker_and_a_living_one_closes_it(tmp_path: Path) -> None:
    with Psp(tmp_path, "--decline-share", "0") as psp:

        async def through_an_outage(provider: HttpProvider) -> tuple[dict[str, str], Circuit]:
            page = {port: TroubledProvider(provider, Troubles(Faults()))}  # as in the demo: it passes on what is asked of it
            await provider.capture(charge("before"))
            psp.kill()
            for number in range(6):
                with pytest.raises(Unavailable):
                    await provider.capture(charge(f"o{number}"))
            opened = states({port: provider})
            assert opened == states(page)
            with pytest.raises(Unavailable) as caught:
                await provider.capture(charge("at once"))
            assert caught.value.after is not None
            await asyncio.to_thread(psp.start)
            assert isinstance(await _patiently(provider, charge("o0")), Captured)
            return opened, provider.breaker.state

        assert remote(psp.url, through_an_outage) == ({"psp": "open"}, Circuit.CLOSED)


async def _patiently(provider: PaymentProvider, one: Charge) -> Captured | Declined:
    """As a stage does: when it is put off, it comes back."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await provider.capture(one)
            except Unavailable as error:
                await asyncio.sleep(error.after or 0.05)


@asynccontextmanager
async def _stub(*answers: tuple[int, bytes]) -> AsyncIterator[tuple[str, list[str]]]:
    """A provider that answers so, one after the other; gives its URL and what it was asked."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        status, body = answers[min(len(asked), len(answers) - 1)]
        asked.append(request.method)
        return web.Response(status=status, body=body)

    app = web.Application()
    app.router.add_route("*", "/v1/payments", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    finally:
        await runner.cleanup()


PAID = b'{"id": "pay_1", "state": "captured"}'


@pytest.mark.parametrize(
    ("answers", "asked", "outcome"),
    [
        ([(500, b""), (200, b'{"data": [%s]}' % PAID)], "POST GET", Captured("pay_1")),
        ([(500, b""), (200, b'{"data": []}'), (201, PAID)], "POST GET POST", Captured("pay_1")),
        ([(201, b"<html>"), (200, b'{"data": [%s]}' % PAID)], "POST GET", Captured("pay_1")),
        ([(500, b""), (500, b"")], "POST GET", Unavailable),
        ([(500, b""), (200, b'{"data": []}'), (500, b"")], "POST GET POST", Unavailable),
        ([(500, b""), (200, b"x" * 100_000)], "POST GET", Unavailable),
        ([(302, b"")], "POST", Reject),
        ([(400, b"")], "POST", Reject),
        ([(403, b"")], "POST", Unavailable),
        ([(429, b"")], "POST", Unavailable),
    ],
)
def test_every_answer_has_its_meaning(answers: list[tuple[int, bytes]], asked: str, outcome: Any) -> None:
    async def run() -> tuple[Any, list[str]]:
        async with _stub(*answers) as (url, methods), connect(settings(url)) as provider:
            (result,) = await _all(provider, [charge("k")])
            return result, methods

    result, methods = asyncio.run(run())
    assert " ".join(methods) == asked
    assert result == outcome if isinstance(outcome, Captured) else type(result) is outcome


def test_a_doubtful_key_is_asked_for_before_anything_else_the_next_time() -> None:
    async def run() -> list[str]:
        answers = [(500, b""), (500, b""), (200, b'{"data": [%s]}' % PAID)]
        async with _stub(*answers) as (url, methods), connect(settings(url)) as provider:
            with pytest.raises(Unavailable):
                await provider.capture(charge("k"))
            assert await provider.capture(charge("k")) == Captured("pay_1")
            return methods

    assert asyncio.run(run()) == ["POST", "GET", "GET"]


def test_a_line_that_goes_dead_ends_at_the_deadline() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(Unavailable):
            remote(url, lambda provider: provider.capture(charge("k")), timeout="0.3")
        assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("url", "key", "timeout", "where"),
    [
        ("localhost:8600", "k", "1", "TOWPATH_PSP_URL"),
        ("http://localhost", "", "1", "TOWPATH_PSP_API_KEY"),
        ("http://localhost", "k", "soon", "TOWPATH_PSP_TIMEOUT"),
        ("http://localhost", "k", "nan", "TOWPATH_PSP_TIMEOUT"),
        ("http://localhost", "k", "60", "TOWPATH_PSP_TIMEOUT"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(url: str, key: str, timeout: str, where: str) -> None:
    async def run() -> None:
        async with connect(settings(url, key, timeout)):
            pass

    with pytest.raises(SetupError) as caught:
        asyncio.run(run())
    assert caught.value.where == where
