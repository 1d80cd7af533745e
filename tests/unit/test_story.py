"""The story of an order, told from a flow in memory."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import msgspec

from streams.memory.log import partition_of
from streams.ops.story import Step, tell
from streams.record import Record
from streams.session import Place
from streams.testing import Simulation
from streams.travel import output_id
from tests.support.moves import Asked, start
from tests.unit.test_orders_intake import PLACED
from topologies.orders import orders
from topologies.orders.events import Closing, DeliveryRequested, OrderAccepted, OrderClosed, OrderSubmitted


class Memory:
    """A broker in memory as the source of a story; `places` is what was read."""

    def __init__(self, flow: Simulation) -> None:
        self.places: list[Place] = []
        self._broker = flow.broker

    def read(self, places: Iterable[Place], since: int) -> Iterable[Record]:
        for topic, partition in places:
            self.places.append((topic, partition))
            for record in self._broker.read(topic):
                if record.partition == partition and record.timestamp >= since:
                    yield record

    def committed(self, group: str) -> Mapping[Place, int]:
        return self._broker.committed(group)


def story(flow: Simulation, key: str = "k", since: int = 0) -> list[Step]:
    return tell(flow.topology, key, Memory(flow), since)


def test_each_event_is_below_its_cause_with_the_stage_that_made_it() -> None:
    with Simulation(orders) as flow:
        flow.produce(OrderSubmitted("o1", "c1", "s1", PLACED, "USD", ()))
        flow.produce(OrderSubmitted("o2", "c1", "s1", PLACED, "USD", ()))
        flow.run()
        steps = story(flow, "o1")
    assert [(step.event, step.stage, step.depth, step.parent) for step in steps] == [
        ("OrderSubmitted", "", 0, None),
        ("OrderRejected", "intake", 1, 0),
        ("NotificationSent", "notification", 2, 1),
    ]
    assert {handled.state for step in steps for handled in step.handled} == {"done"}
    assert steps[1].value["order_id"] == "o1"


def test_a_parked_event_says_how_often_it_was_tried_and_when_it_goes_on() -> None:
    with start() as flow:
        flow.produce(Asked("k", 1, ("retry", "wait:500")))
        flow.run(seconds=60)
        (parked,) = story(flow)
        until = datetime.fromtimestamp(flow.parked("play")[0].due, UTC)
        flow.run(seconds=500)
        asked, answered = story(flow)
    assert [(one.state, one.attempts, one.due) for one in parked.handled] == [("parked", 2, until)]
    assert "not yet" in parked.handled[0].error
    assert [(one.state, one.attempts, one.due) for one in asked.handled] == [("done", 3, None)]
    assert answered.after == round((until - asked.at).total_seconds() * 1000)


def test_an_event_that_nobody_has_read_yet_is_waiting() -> None:
    with Simulation(orders, stages=[]) as flow:
        flow.produce(OrderSubmitted("o1", "c1", "s1", PLACED, "USD", ()))
        (step,) = story(flow, "o1")
    assert [(handled.stage, handled.state, handled.attempts) for handled in step.handled] == [("intake", "waiting", 0)]


def test_a_dead_event_has_its_letter_and_case_also_if_it_is_no_event() -> None:
    with start() as flow:
        flow.produce(Asked("k", 1, ("reject",)))
        flow.broker.produce("moves.asked", b"k", b"\xffno avro")
        flow.run()
        dead, nonsense = story(flow)
        letters = flow.letters("play")
    assert [(one.state, one.attempts, one.error, one.letters) for one in dead.handled] == [
        ("dead", 1, "Reject: never", (letters[0].place,))
    ]
    assert [decision["what"] for decision in (dead.handled[0].case or {})["decisions"]] == ["died"]
    assert "wire format" in (nonsense.undecodable or "")
    assert nonsense.handled[0].state == "dead"
    msgspec.json.encode(nonsense)


def test_an_event_whose_key_nobody_knows_has_no_story() -> None:
    with start() as flow:
        flow.produce(Asked("k", 1))
        flow.run()
        assert story(flow, "other") == []
        later = int(flow.clock.now() * 1000) + 1
        assert story(flow, since=later) == []


def test_only_the_partition_of_the_key_is_read() -> None:
    with Simulation(orders) as flow:
        record = flow.produce(OrderSubmitted("o1", "c1", "s1", PLACED, "USD", ()))
        flow.run()
        source = Memory(flow)
        tell(orders, "o1", source)
    other_keys = {"notifications.requested"}
    assert {number for topic, number in source.places if topic not in other_keys} == {record.partition}


def test_an_event_with_another_key_belongs_to_what_caused_it() -> None:
    with Simulation(orders) as flow:
        for order in ("o1", "o2"):
            flow.produce(OrderSubmitted(order, "c1", "s1", PLACED, "USD", ()))
        flow.run()
        for order in ("o1", "o2"):
            cause = next(step.id for step in story(flow, order) if step.event == "OrderRejected")
            made = (("id", output_id(cause, "notification", 0).encode()), ("cause", cause.encode()))
            flow.produce(DeliveryRequested("s9", "d", "e", "rejected", PLACED, order, "c1", None, "", "", lead=False), made)
        steps = story(flow, "o1")
    (delivery,) = (step for step in steps if step.event == "DeliveryRequested")
    assert (delivery.key, delivery.stage, delivery.value["order_id"]) == ("s9", "notification", "o1")
    assert steps[delivery.parent or 0].event == "OrderRejected"


def test_an_event_that_came_by_another_partitioner_is_found_all_the_same() -> None:
    with start(workers=0) as flow:
        own = flow.produce(Asked("q", 1))
        wrong = (partition_of(b"p", flow.topology.partitions) + 1) % flow.topology.partitions
        flow.broker.produce("moves.asked", b"p", own.value, partition=wrong)
        (step,) = story(flow, "p")
    assert step.partition == wrong


def test_what_a_timer_led_to_is_below_what_set_it_when_no_topic_keeps_the_timer() -> None:
    timer = output_id("accepted", "inventory", 1)
    made = (("id", output_id(timer, "inventory", 0).encode()), ("cause", timer.encode()))
    with Simulation(orders, stages=[]) as flow:
        flow.produce(OrderAccepted("o1", "c1", "s1", PLACED, "USD", 100, ()), (("id", b"accepted"),))
        flow.produce(OrderClosed("o1", "c1", "USD", 100, Closing.EXPIRED), made)
        _, closed = story(flow, "o1")
    assert (closed.event, closed.stage, closed.parent) == ("OrderClosed", "inventory", 0)


def test_who_claims_a_cause_without_the_id_that_a_stage_makes_is_unknown() -> None:
    with start() as flow:
        flow.produce(Asked("k", 1), (("id", b"first"),))
        flow.run()
        answered = next(step for step in story(flow) if step.event == "Answered")
        flow.broker.produce(
            "moves.answered", b"k", flow.broker.read("moves.answered")[0].value, (("id", b"x"), ("cause", b"first"))
        )
        forged = next(step for step in story(flow) if step.id == "x")
    assert (answered.stage, forged.stage, forged.parent) == ("play", "unknown", 0)


def test_events_that_claim_each_other_as_their_cause_are_told_once() -> None:
    with start(workers=0) as flow:
        value = flow.produce(Asked("other", 1)).value
        for own, cause in ((b"a", b"b"), (b"b", b"a"), (b"c", b"c")):
            flow.broker.produce("moves.asked", b"k", value, (("id", own), ("cause", cause)))
        steps = story(flow)
    assert sorted(step.id for step in steps) == ["a", "b", "c"]
