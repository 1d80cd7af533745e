"""What a PostgreSQL server does to the store: it dies, refuses, undoes; each is told apart."""

import threading
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from sqlalchemy.exc import DataError, IntegrityError, ProgrammingError

from streams import migrate, names
from streams.config import Settings
from streams.errors import Conflict, Unavailable
from streams.testing import Simulation
from tests.support.postgres import Meanwhile, own_server, raw, wait_until, waiting
from tests.support.shop import batch, count, effect, open_inbox
from topologies.orders import orders
from topologies.orders.events import Demand, OrderAccepted, StockReserved


def test_a_server_that_dies_inside_a_batch_is_unavailable_and_nothing_has_happened() -> None:
    with own_server() as server:
        inbox = open_inbox(server.url)
        batch(inbox, "before")

        def lose() -> None:
            with inbox.batch(["a"], 0.0) as journal:
                effect(journal, "a")
                server.kill()
                with pytest.raises(Unavailable, match="database"):
                    effect(journal, "b")

        with pytest.raises(Unavailable, match="database"):
            lose()
        with pytest.raises(Unavailable, match="database"):
            batch(inbox, "a")
        server.launch()
        batch(inbox, "a")  # the first attempt already: the pool tells that its connection is no more
        server.stop()
        server.launch()
        batch(inbox, "b")
        assert count(inbox) == 3
        inbox.close()


FAIL = """CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{}'; END $$"""
VERDICTS: dict[str, type[Exception]] = {
    "40001": Conflict,  # serialization failure
    "40P01": Conflict,  # deadlock
    "57P01": Unavailable,  # ended by an administrator
    "53300": Unavailable,  # too many connections
    "53100": Unavailable,  # disk full
    "55P03": Unavailable,  # a lock took too long
    "25006": Unavailable,  # a primary that has become a standby
    "08006": Unavailable,
    "23505": IntegrityError,
    "22003": DataError,
    "42P01": ProgrammingError,
}


@pytest.mark.parametrize("when", ["in an event", "at the commit"])
def test_what_the_server_says_is_sorted(postgres_url: str, when: str, other: psycopg.Connection[Any]) -> None:
    inbox = open_inbox(postgres_url)
    trigger = "TRIGGER t BEFORE INSERT ON counters"
    if when == "at the commit":
        trigger = "CONSTRAINT TRIGGER t AFTER INSERT ON counters DEFERRABLE INITIALLY DEFERRED"
    other.execute(FAIL.format("00000"))
    other.execute(f"CREATE {trigger} FOR EACH ROW EXECUTE FUNCTION fail()")
    said = {}
    for state in VERDICTS:
        other.execute(FAIL.format(state))
        with pytest.raises(tuple(set(VERDICTS.values()))) as caught:
            batch(inbox, "a")
        said[state] = caught.type
    assert said == VERDICTS
    assert count(inbox) == 0
    inbox.close()


def test_a_deadlock_with_a_stranger_is_a_conflict(postgres_url: str, other: psycopg.Connection[Any]) -> None:
    inbox = open_inbox(postgres_url)
    other.execute("INSERT INTO counters VALUES ('n', 1), ('m', 1)")
    other.execute("SET deadlock_timeout = '1h'")  # the other one shall find out, and be the victim
    has_m = threading.Event()

    def stranger() -> None:
        with other.transaction():
            other.execute("UPDATE counters SET value = 5 WHERE name = 'm'")
            has_m.set()
            other.execute("UPDATE counters SET value = 5 WHERE name = 'n'")

    def meet() -> None:
        with inbox.batch(["a"], 0.0) as journal, raw(postgres_url) as third:
            effect(journal, "a")
            met.append(Meanwhile(stranger))
            assert has_m.wait(30)
            wait_until(lambda: waiting(third))
            with journal.savepoint():
                journal.repository.add("m")

    met: list[Meanwhile] = []
    with pytest.raises(Conflict):
        meet()
    assert met[0].result() is None
    batch(inbox, "a")
    assert count(inbox) == 6
    inbox.close()


FAIL_AT_FIRST = """CREATE SEQUENCE tries; CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF nextval('tries') <= {times} THEN RAISE EXCEPTION USING ERRCODE = '{state}'; END IF; RETURN NEW; END $$;
    CREATE TRIGGER t BEFORE INSERT ON reservations FOR EACH STATEMENT EXECUTE FUNCTION fail();
    INSERT INTO stock VALUES ('a', 10, 0)"""  # a sequence counts on when all else is undone


@pytest.mark.parametrize(
    ("state", "times", "tries", "held"),
    [
        ("40001", 4, 5, False),  # a conflict: again at once, and nobody notices
        ("40001", 5, 5, True),  # not for ever
        ("55P03", 1, 1, True),  # an outage is probed when its time comes
    ],
)
def test_what_the_database_undid_is_run_again_and_an_outage_is_not(
    postgres_url: str, other: psycopg.Connection[Any], state: str, times: int, tries: int, held: bool
) -> None:
    migrate.upgrade(postgres_url, migrate.stores(orders))
    other.execute(FAIL_AT_FIRST.format(times=times, state=state))

    def seen() -> int:
        (value,) = other.execute("SELECT last_value FROM tries").fetchone() or (0,)
        return int(value)

    with Simulation(orders, stages=["inventory"], settings=Settings(store=postgres_url)) as flow:
        flow.produce(accepted("o1", {"a": 2}))
        while not (flow.workers[0].engine.totals["done"] or flow.workers[0].engine.gate.hold):
            flow.workers[0].cycle()
        assert (seen(), flow.workers[0].engine.gate.hold is not None) == (tries, held)
        table = flow.broker.read(names.retry("orders", "inventory"))
        assert any((record.key or b"").startswith(b"orders.accepted/") for record in table) == held
        flow.run(60)
        assert len(flow.outputs(StockReserved)) == 1
        assert flow.workers[0].engine.totals["retry"] == 0
        assert [parked.record.topic for parked in flow.parked("inventory")] == ["inventory.payment-due"], "its own timer"
    assert other.execute("SELECT on_hand, reserved FROM stock").fetchall() == [(10, 2)]


def accepted(order_id: str, demand: dict[str, int]) -> OrderAccepted:
    lines = tuple(Demand(sku, f"NAME {sku}", quantity) for sku, quantity in demand.items())
    return OrderAccepted(order_id, "c1", "s1", datetime(2017, 1, 1, tzinfo=UTC), "USD", 500, lines)
