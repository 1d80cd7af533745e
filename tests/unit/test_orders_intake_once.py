"""An order that is submitted again: one order, whatever is sent twice, killed or pruned in between."""

from collections.abc import Iterator
from contextlib import suppress

import msgspec
import pytest

from streams import migrate
from streams.config import Settings
from streams.dead import State
from streams.errors import Conflict
from streams.record import event_info
from streams.store import Inbox, Journal
from streams.testing import Simulation
from tests.support.postgres import Meanwhile, raw, wait_until, waiting
from tests.unit.test_orders_intake import ORDER
from topologies.orders import orders
from topologies.orders.events import OrderAccepted, OrderRejected, OrderSubmitted
from topologies.orders.submissions import Seen, Submissions, submissions

OTHER = msgspec.structs.replace(ORDER, customer_id="c2")
DIRTY = msgspec.structs.replace(ORDER, order_id="o9", lines=())
NAMELESS = msgspec.structs.replace(ORDER, order_id=" ")


@pytest.fixture
def flow(url: str) -> Iterator[Simulation]:
    with Simulation(orders, stages=["intake"], settings=Settings(store=url)) as flow:
        yield flow


def rows(url: str) -> dict[str, int]:
    """Each order that is remembered, and how often it came again."""
    inbox = Inbox(url, "look", submissions)
    try:
        with inbox.batch([], 0.0) as journal:
            run = journal.repository._connection.exec_driver_sql
            return {order_id: repeats for order_id, repeats in run("SELECT order_id, repeats FROM submissions")}  # noqa: C416  # rows
    finally:
        inbox.close()


@pytest.mark.parametrize("together", [True, False])
def test_an_order_that_comes_again_as_it_was_is_done_and_counted(flow: Simulation, url: str, together: bool) -> None:
    for order in (ORDER, DIRTY) * 3:
        flow.produce(order)
        if not together:
            flow.run()
    flow.run()
    assert len(flow.outputs(OrderAccepted)) == 1
    assert len(flow.outputs(OrderRejected)) == 1
    assert rows(url) == {"o1": 2, "o9": 2}
    assert flow.cases() == []


def test_other_content_under_the_same_number_is_a_case(flow: Simulation, url: str) -> None:
    for order in (ORDER, OTHER, ORDER):
        flow.produce(order)
    flow.run()
    assert [accepted.customer_id for accepted in flow.outputs(OrderAccepted)] == ["c1"]
    (case,) = flow.cases()
    assert (case.state, case.verdict, case.message) == (
        State.OPEN,
        "reject",
        "order o1 was submitted before, with other content",
    )
    assert rows(url) == {"o1": 1}


def test_orders_without_a_readable_number_are_each_rejected_and_harm_no_other(flow: Simulation, url: str) -> None:
    for order in (NAMELESS, ORDER, msgspec.structs.replace(ORDER, order_id="a\x00b"), NAMELESS):
        flow.produce(order)
    flow.run()
    assert [rejected.code for rejected in flow.outputs(OrderRejected)] == ["order-id-missing"] * 3
    assert rows(url) == {"o1": 0}


def test_one_order_under_two_keys_is_one_order(flow: Simulation, url: str) -> None:
    encode = flow._codec.encoder(OrderSubmitted)
    for key in (b"k1", b"k2", b"k3", b"k4", b"k5"):
        flow.broker.produce(event_info(OrderSubmitted).topic, key, encode(ORDER))
    flow.run()
    assert len(flow.outputs(OrderAccepted)) == 1
    assert rows(url) == {"o1": 4}


def test_a_number_is_forgotten_with_the_inbox(flow: Simulation, url: str) -> None:
    flow.produce(ORDER)
    flow.run(seconds=100)
    flow.produce(DIRTY)
    flow.run()
    inbox = Inbox(url, "orders.intake", submissions)
    before = flow.clock.now() - 50
    inbox.prune(before, lambda *_: True, dry_run=True)
    assert rows(url) == {"o1": 0, "o9": 0}
    inbox.prune(before, lambda *_: True)
    inbox.close()
    assert rows(url) == {"o9": 0}


def fails(journal: Journal, order: OrderSubmitted, seen: Seen) -> None:
    with suppress(InterruptedError), journal.savepoint():
        assert journal.repository.take(order, 0.0) is seen
        raise InterruptedError


def test_an_event_that_fails_has_remembered_nothing(url: str) -> None:
    migrate.upgrade(url, [submissions])
    inbox = Inbox(url, "orders.intake", submissions)
    with inbox.batch([], 0.0) as journal:
        seen: Submissions = journal.repository
        fails(journal, ORDER, Seen.FIRST)
        with journal.savepoint():
            assert seen.take(OTHER, 0.0) is Seen.FIRST
        fails(journal, OTHER, Seen.AGAIN)
        with journal.savepoint():
            assert seen.take(ORDER, 0.0) is Seen.OTHERWISE
    inbox.close()
    assert rows(url) == {"o1": 0}


def test_two_copies_that_get_one_order_at_once_accept_it_once(postgres_url: str) -> None:
    migrate.upgrade(postgres_url, [submissions])
    one, two = (Inbox(postgres_url, "orders.intake", submissions) for _ in range(2))

    def second() -> Seen:
        with two.batch([], 0.0, [1]) as journal, journal.savepoint():
            found: Seen = journal.repository.take(ORDER, 0.0)
        return found

    with raw(postgres_url) as third, one.batch([], 0.0, [0]) as journal:
        assert journal.repository.take(ORDER, 0.0) is Seen.FIRST
        journal.repository.flush()
        meanwhile = Meanwhile(second)
        wait_until(lambda: waiting(third))
    assert isinstance(meanwhile.result(), Conflict)
    assert second() is Seen.AGAIN
    one.close()
    two.close()
