"""Refunds over HTTP: a payment goes back once, whatever the network says; in the provider's own ledger."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from streams.config import Settings
from streams.errors import Reject, Unavailable
from tests.support.psp import KEY, Psp
from topologies.orders.ports import Captured, Charge, Refund
from topologies.orders.provider import HttpProvider, connect


@pytest.fixture(scope="module")
def psp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Psp]:
    with Psp(tmp_path_factory.mktemp("psp")) as psp:
        yield psp


def ask(psp: Psp, work: Callable[[HttpProvider], Coroutine[Any, Any, Any]], timeout: str = "10") -> Any:
    async def run() -> Any:
        async with connect(Settings(variables={"psp_url": psp.url, "psp_api_key": KEY, "psp_timeout": timeout})) as provider:
            return await work(provider)

    return asyncio.run(run())


def pay(psp: Psp, order_id: str) -> Refund:
    paid = ask(psp, lambda provider: provider.capture(Charge(f"pay {order_id}", order_id, "c1", 500, "EUR")))
    assert isinstance(paid, Captured)
    return Refund(f"refund-{paid.payment_id}", order_id, paid.payment_id, 500)


def give_back(psp: Psp, refund: Refund, timeout: str = "10") -> None:
    ask(psp, lambda provider: provider.refund(refund), timeout)


def test_a_payment_goes_back_once_however_often_it_is_asked_for(psp: Psp) -> None:
    refund = pay(psp, "o1")
    for _ in range(2):
        give_back(psp, refund)
    assert psp.moves("refund")["o1"] == [500]


@pytest.mark.parametrize("faults", [{"timeouts": 1, "hang": 30}, {"resets": 1}, {"timeouts": 1, "hang": 0.1}])
def test_silence_after_a_refund_is_asked_about(psp: Psp, faults: dict[str, float]) -> None:
    order_id = f"silent {faults}"
    refund = pay(psp, order_id)
    psp.faults(**faults)
    try:
        give_back(psp, refund, timeout="1")
    finally:
        psp.faults()
    assert psp.moves("refund")[order_id] == [500]


def test_a_payment_that_somebody_else_has_given_back_is_given_back(psp: Psp) -> None:
    refund = pay(psp, "o2")
    headers = {"Idempotency-Key": "by hand"}
    assert psp.ask("POST", f"/v1/payments/{refund.payment_id}/refund", {}, headers=headers)[0] == 200
    give_back(psp, refund)
    assert psp.moves("refund")["o2"] == [500]


def test_what_the_provider_will_never_give_back_is_a_case(psp: Psp) -> None:
    refund = pay(psp, "o3")
    more = Refund("more", "o3", refund.payment_id, 501)
    unknown = Refund("unknown", "o3", "pay_x/../../admin?", 500)
    for wrong, says in ((more, "amount-too-large"), (unknown, "no-such-thing|payment-unknown")):
        with pytest.raises(Reject, match=says):
            give_back(psp, wrong)
    assert "o3" not in psp.moves("refund")


def test_a_provider_that_is_away_is_unavailable_and_nothing_is_lost(psp: Psp) -> None:
    refund = pay(psp, "o4")
    psp.faults(errors=1)
    try:
        with pytest.raises(Unavailable, match="psp"):
            give_back(psp, refund)
    finally:
        psp.faults()
    give_back(psp, refund)
    assert psp.moves("refund")["o4"] == [500]
