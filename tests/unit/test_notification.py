"""Who is told of an order, in which order, how often, and what becomes of whoever cannot be told."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streams import migrate, names
from streams.config import Settings
from streams.errors import Reject, Retry
from streams.stage import Port
from streams.testing import Simulation
from topologies.orders import orders
from topologies.orders.delivery import delivery
from topologies.orders.events import Closing, DeliveryRequested, Ending, NotificationSent, OrderClosed, OrderDisputed
from topologies.orders.outgoing import hooks
from topologies.orders.ports import Letter, mail
from topologies.orders.post import post
from topologies.orders.subscribers import Subscriber, Subscribers, opened, subscribers


class Receivers:
    """The webhooks' and e-mails' other side. What `answer` raises or returns is the answer; the default takes everything."""

    def __init__(self) -> None:
        self.answer: Callable[[Subscriber, DeliveryRequested], bool] = lambda *_: True
        self.asked: list[tuple[str, str]] = []
        self.took: list[tuple[str, str]] = []
        self.ids: list[str] = []
        self.took_ids: list[str] = []

    async def send(self, to: Subscriber, told: DeliveryRequested) -> bool:
        self.asked.append((to.subscriber_id, told.order_id))
        self.ids.append(told.delivery_id)
        taken = self.answer(to, told)
        if taken:
            self.took.append((to.subscriber_id, told.order_id))
            self.took_ids.append(told.delivery_id)
        return taken


class Letters:
    def __init__(self) -> None:
        self.sent: list[Letter] = []

    def send(self, letter: Letter) -> None:
        self.sent.append(letter)


class Flow:
    """Notification and delivery at work. `who` are rows of the table: id, customer, URL."""

    def __init__(self, flow: Simulation, settings: Settings, receivers: Receivers, letters: Letters) -> None:
        self.flow = flow
        self.settings = settings
        self.receivers = receivers
        self.letters = letters

    def ended(self) -> list[str]:
        with opened(self.settings.store) as engine, engine.begin() as connection:
            return sorted(one.subscriber_id for one in Subscribers(connection).all() if one.ended)

    def pay(self, order_id: str, customer_id: str) -> None:
        self.flow.produce(OrderClosed(order_id, customer_id, "USD", 500, Closing.CONFIRMED, f"pay_{order_id}"))

    @property
    def told(self) -> list[str]:
        return [sent.order_id for sent in self.flow.outputs(NotificationSent)]

    @property
    def written_to(self) -> list[str]:
        return [letter.order_id for letter in self.letters.sent]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Flow]]:
    @contextmanager
    def running(*who: tuple[str, str | None, str], session_timeout: float) -> Iterator[Flow]:
        settings = Settings(store=f"sqlite:///{tmp_path / 'store.db'}", directory=tmp_path)
        migrate.upgrade(settings.store, [subscribers])
        with opened(settings.store) as engine, engine.begin() as connection:
            for subscriber_id, customer_id, url in who:
                Subscribers(connection).add(Subscriber(subscriber_id, customer_id, url, ("whsec_x",)))
        receivers, letters = Receivers(), Letters()
        ports: dict[Port[Any], Any] = {hooks: receivers, post: receivers, mail: letters}
        stages = ["notification", "delivery"]
        with Simulation(orders, stages=stages, ports=ports, settings=settings, session_timeout=session_timeout) as flow:
            yield Flow(flow, settings, receivers, letters)

    opened_flows = []

    def start(*who: tuple[str, str | None, str], session_timeout: float = 45.0) -> Flow:
        context = running(*who, session_timeout=session_timeout)
        opened_flows.append(context)
        return context.__enter__()

    yield start
    for context in opened_flows:
        context.__exit__(None, None, None)


WEB = "https://shop.example/hooks"


def test_an_end_that_was_told_by_webhook_is_named_as_exactly_as_one_told_by_letter(start: Callable[..., Flow]) -> None:
    flow = start(("sub_a", "c1", WEB))
    flow.flow.produce(OrderClosed("o1", "c1", "USD", 500, Closing.EXPIRED, None, "expired", "Late."))
    flow.flow.produce(OrderClosed("o2", "c2", "USD", 500, Closing.EXPIRED, None, "expired", "Late."))
    flow.flow.run()
    assert flow.receivers.took == [("sub_a", "o1")]
    assert {sent.order_id: sent.closing for sent in flow.flow.outputs(NotificationSent)} == {
        "o1": Closing.EXPIRED,
        "o2": Closing.EXPIRED,
    }


def test_all_that_waits_for_a_subscriber_is_through_a_quarter_of_an_hour_after_an_operator_has_ended_it(
    start: Callable[..., Flow], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("topologies.orders.subscribers._FRESH", -1.0)

    def busy(*_: Any) -> bool:
        raise Retry("busy")

    flow = start(("sub_a", "c1", WEB))
    flow.receivers.answer = busy
    for number in range(40):
        flow.pay(f"o{number:02}", "c1")
    flow.flow.run(seconds=2 * 3600)
    assert (flow.told, len(flow.flow.parked("delivery")), flow.ended()) == ([], 40, [])
    with opened(flow.settings.store) as engine, engine.begin() as connection:
        (subscriber,) = Subscribers(connection).all()
        Subscribers(connection).change(msgspec.structs.replace(subscriber, ended="by an operator"))
    flow.flow.run(seconds=900)
    assert sorted(flow.written_to) == [f"o{number:02}" for number in range(40)]
    assert flow.flow.parked("delivery") == []


def test_a_customer_without_subscribers_gets_a_letter_and_whoever_wants_all_orders_is_told_too(
    start: Callable[..., Flow],
) -> None:
    at = start(("s-all", None, WEB), ("s-other", "c2", WEB))
    at.pay("o1", "c1")
    at.flow.run()
    assert (at.written_to, at.told, at.receivers.took) == (["o1"], ["o1"], [("s-all", "o1")])


def test_a_customer_who_calls_himself_everybody_is_told_of_his_own_orders(start: Callable[..., Flow]) -> None:
    at = start(("s1", "c1", WEB))
    for order_id, customer_id in (("o1", "*"), ("o2", ""), ("o3", "%")):
        at.pay(order_id, customer_id)
    at.flow.run()
    assert sorted(at.told) == ["o1", "o2", "o3"]
    assert at.receivers.took == []


def test_an_end_is_told_once_when_the_first_of_the_customers_subscribers_has_taken_it(start: Callable[..., Flow]) -> None:
    at = start(("s1", "c1", WEB), ("s2", "c1", "mailto:c1@shop.example"), ("s3", None, WEB))
    at.receivers.answer = busy(times=2, whom="s1")
    at.pay("o1", "c1")
    at.flow.run()
    assert (sorted(at.receivers.took), at.told) == ([("s2", "o1"), ("s3", "o1")], [])
    at.flow.run(seconds=10)
    assert (at.receivers.took[-1], at.told, at.written_to) == (("s1", "o1"), ["o1"], [])
    (sent,) = at.flow.outputs(NotificationSent)
    assert (sent.ending, sent.customer_id, sent.code) == (Ending.CONFIRMED, "c1", None)


def test_a_subscriber_is_told_in_order_and_keeps_nobody_else_waiting(start: Callable[..., Flow]) -> None:
    at = start(("s1", "c1", WEB), ("s2", "c2", WEB))
    at.receivers.answer = busy(times=3, whom="s1", after=60.0)
    for number in range(4):
        at.pay("o1", "c1")  # one key, so that they are in order when they come
        at.pay(f"p{number}", "c2")
    at.flow.run(seconds=5)
    assert sorted(at.receivers.took) == [("s2", f"p{number}") for number in range(4)]
    assert len([one for one in at.receivers.asked if one[0] == "s1"]) == 1, "the receiver has asked for a minute"
    at.flow.run(seconds=180)
    wanted = [one.delivery_id for one in at.flow.outputs(DeliveryRequested) if one.subscriber_id == "s1"]
    assert [webhook_id for webhook_id in at.receivers.took_ids if webhook_id in wanted] == wanted
    assert [webhook_id for webhook_id in at.receivers.ids if webhook_id in wanted] == [wanted[0]] * 3 + wanted
    assert len(set(at.receivers.ids)) == 8, "each subscriber has ids of its own"


def test_who_answers_410_is_sent_nothing_any_more_and_the_customer_hears_of_it_by_letter(start: Callable[..., Flow]) -> None:
    at = start(("s1", "c1", WEB), ("s2", None, WEB))
    at.receivers.answer = lambda *_: False
    for _ in range(3):
        at.pay("o1", "c1")
    at.flow.run()
    at.pay("o2", "c1")
    at.flow.run()
    assert sorted(at.receivers.asked) == [("s1", "o1"), ("s2", "o1")]
    assert (at.ended(), at.flow.cases()) == (["s1", "s2"], [])
    assert sorted(at.told) == sorted(at.written_to) == ["o1", "o1", "o1", "o2"]


def test_who_never_answers_is_given_up_with_a_case_but_not_the_customer(start: Callable[..., Flow]) -> None:
    at = start(
        ("s1", "c1", WEB),
        ("s2", None, WEB),
        ("s3", "c3", "mailto:c3@shop.example"),
        ("s4", None, "mailto:all@shop.example"),
        session_timeout=3 * 3600.0,  # the clock goes in steps of a third of it
    )
    at.receivers.answer = busy(times=10**6)
    at.pay("o1", "c1")
    at.pay("o3", "c3")
    at.flow.run(seconds=20 * 3600)
    assert len([one for one in at.receivers.asked if one == ("s1", "o1")]) == delivery.retry.attempts
    assert at.ended() == ["s1", "s2"], "that a mail server was away is not the fault of an address"
    assert sorted(at.told) == sorted(at.written_to) == ["o1", "o3"]
    assert {case.message for case in at.flow.cases()} == {"s2 is busy", "s4 is busy"}


def test_what_may_not_be_sent_to_is_a_case_once(start: Callable[..., Flow]) -> None:
    def refuse(to: Subscriber, _: DeliveryRequested) -> bool:
        raise Reject(f"nothing is sent to subscriber {to.subscriber_id}: 10.0.0.5 is no public address: private")

    at = start(("s1", "c1", WEB), ("s2", None, WEB))
    at.receivers.answer = refuse
    for _ in range(3):
        at.pay("o1", "c1")
    at.flow.run()
    assert at.told == at.written_to == ["o1"] * 3
    (case,) = at.flow.cases()
    assert "10.0.0.5 is no public address" in case.message
    assert len(at.receivers.asked) == 2


def test_a_dispute_is_told_and_is_no_end(start: Callable[..., Flow]) -> None:
    at = start(("s1", "c1", WEB), ("s2", None, WEB))
    at.flow.produce(OrderDisputed("o1", "c1", "pay_1", "USD", 500))
    at.flow.produce(OrderDisputed("o2", "c2", "pay_2", "USD", 500))
    at.flow.run()
    assert sorted(at.receivers.took) == [("s1", "o1"), ("s2", "o1"), ("s2", "o2")]
    assert (at.written_to, at.told) == (["o2"], [])


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("stage", ["notification", "delivery"])
def test_who_dies_in_between_sends_again_under_the_same_id_or_not_at_all(
    start: Callable[..., Flow], stage: str, committed: bool
) -> None:
    at = start(("s1", "c1", WEB), ("s2", "c1", WEB))
    at.pay("o1", "c1")
    at.flow.run()
    at.flow.broker.crash_next(names.transactional_id("orders", stage, "a"), committed=committed)
    at.pay("o1", "c1")
    at.flow.run()
    assert [worker.stage.name for worker in at.flow.workers] == [name for name in ("notification", "delivery") if name != stage]
    at.flow.start(stage)
    at.flow.run(seconds=100)
    assert at.told == ["o1", "o1"]
    assert sorted(Counter(at.receivers.ids).values()) == ([1, 1, 2, 2] if stage == "delivery" and not committed else [1] * 4)


def busy(times: int, whom: str = "", after: float | None = None) -> Callable[[Subscriber, DeliveryRequested], bool]:
    left = [times]

    def answer(to: Subscriber, _: DeliveryRequested) -> bool:
        if whom in to.subscriber_id and left[0]:
            left[0] -= 1
            raise Retry(f"{to.subscriber_id} is busy", after=after)
        return True

    return answer
