"""Replay and rebuild against the order flow on a real Kafka, by the command line as an operator calls it."""

import json
import re
import sqlite3
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from streams.cli import towpath
from streams.codec import Codec
from streams.config import Settings
from streams.local import FAILOVER, LocalKafka
from streams.ops.replay.repair import Plan, Repair
from streams.ops.replay.verb import Options, Replay
from streams.ops.replay.window import Inputs
from streams.ops.scan import Scan
from streams.receipts import Receipt
from streams.record import Record
from streams.registry import FolderRegistry
from streams.travel import event_id
from tests.support.history import CODEC, stocked, submitted
from tests.support.workers import Crew, wait_for
from tests.support.workers import towpath as call
from topologies.orders import orders
from topologies.orders.events import OrderAccepted, OrderSubmitted

MODULE = "topologies.orders"
ORDERS = 60
intake = sys.modules["topologies.orders.intake"]  # the package has the stage under this name


class Past:
    """The order flow after its work, and the command line beside it."""

    def __init__(self, folder: Path, bootstrap: str) -> None:
        self.folder = folder
        self.environment = {
            "TOWPATH_BOOTSTRAP": bootstrap,
            "TOWPATH_DIR": str(folder),
            "TOWPATH_STORE": f"sqlite:///{folder / 'live.db'}",
            "TOWPATH_DECLINE_SHARE": "0.2",
        }
        self.settings = Settings.load(self.environment)

    def towpath(self, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
        """What a call says, in JSON."""
        found = CliRunner().invoke(towpath, arguments, env=self.environment, catch_exceptions=False, standalone_mode=True)
        assert found.exit_code == code, found.output + found.stderr
        self.said = found.stderr
        return [json.loads(line) for line in found.stdout.splitlines()]

    def records(self, topic: str) -> list[Record]:
        with Scan(self.settings, AdminClient({"bootstrap.servers": self.settings.bootstrap}), [topic]) as scan:
            return list(scan.to_end(decided=True))

    def ids(self, topic: str) -> Counter[str]:
        return Counter(event_id(record) for record in self.records(topic))


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Past]:
    folder = tmp_path_factory.mktemp("past")
    with LocalKafka.start(folder / "kafka", overrides=FAILOVER) as kafka:
        past = Past(folder, kafka.bootstrap)
        call(past.environment, "topics", "apply", MODULE)
        stocked(f"sqlite:///{folder / 'base.db'}")
        call(past.environment, "db", "upgrade", MODULE)
        stocked(past.settings.store)
        with Crew(folder, past.environment) as crew:
            worker = crew.start(MODULE, "intake", "inventory", "payment", "settlement", "notification", instance="a")
            crew.wait_until_ready(120)
            encode = CODEC.encoder(OrderSubmitted)
            producer = Producer({"bootstrap.servers": kafka.bootstrap, "partitioner": "murmur2_random"})
            for number in range(ORDERS):
                order = submitted(number, price=0 if number % 10 == 7 else 500)
                producer.produce("orders.submitted", encode(order), order.order_id.encode(), headers={"id": uuid.uuid4().hex})
            assert producer.flush(30) == 0
            wait_for(lambda: past.ids("notifications.sent").total() >= ORDERS, 60, "orders have no end", crew.logs)
            assert worker.terminate()[0] == 0
        yield past


def test_what_was_emitted_is_what_would_be_and_a_price_rule_shows_its_orders(
    past: Past, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for stage in ("intake", "inventory", "payment", "notification"):
        (summary,) = past.towpath("replay", MODULE, stage, "--json")
        assert summary["same"] == summary["events"] > 0
    judge = intake.judge

    def dearer(order: Any) -> Any:
        found = judge(order)
        if order.customer_id == "c2" and isinstance(found, OrderAccepted):
            return msgspec.structs.replace(found, total_minor=found.total_minor + 1)
        return found

    monkeypatch.setattr(intake, "judge", dearer)
    report = tmp_path / "report.html"
    *changed, summary = past.towpath("replay", MODULE, "intake", "--json", "--jobs", "1", "--report", str(report), code=1)
    concerned = {
        dict(record.headers)["cause"].decode()  # type: ignore[union-attr]  # an output has one
        for record in past.records("orders.accepted")
        if CODEC.decoder(OrderAccepted)(record.value).customer_id == "c2"
    }
    assert {finding["event_id"] for finding in changed} == concerned
    assert len(concerned) == 6
    assert summary["groups"] == [{"kind": "changed", "shape": "orders.accepted: total_minor", "events": 6}]
    assert "orders.accepted: total_minor" in report.read_text("utf-8")
    assert "http" not in report.read_text("utf-8"), "a report fetches nothing"
    place = f"orders.submitted:{changed[0]['partition']}:{changed[0]['offset']}"
    after = f"orders.submitted:{changed[0]['partition']}:{changed[0]['offset'] + 1}"
    (*_, one) = past.towpath("replay", MODULE, "intake", "--json", "--jobs", "1", "--from", place, "--to", after, code=1)
    assert (one["events"], one["changed"]) == (1, 1)


def test_on_a_database_of_its_own_everything_is_the_same_as_well(past: Past) -> None:
    base = f"sqlite:///{past.folder / 'base.db'}"
    (summary,) = past.towpath("replay", MODULE, "inventory", "--json", "--effects", "fresh", "--base", base)
    assert summary["same"] == summary["events"] > ORDERS


def test_the_database_made_from_the_topics_is_the_live_one(past: Past, tmp_path: Path) -> None:
    base = f"sqlite:///{past.folder / 'base.db'}"
    made = f"sqlite:///{tmp_path / 'made.db'}"
    (summary,) = past.towpath("rebuild", MODULE, "inventory", "--store", made, "--base", base, "--json")
    assert (summary["rows"], summary["failed"], summary["compared"]) == (0, 0, True)
    wrong = tmp_path / "wrong.db"
    with closing(sqlite3.connect(past.folder / "live.db")) as live, closing(sqlite3.connect(wrong)) as copy:
        live.backup(copy)
        (state,) = copy.execute("SELECT state FROM orders WHERE order_id = 'o1'").fetchone()
        copy.execute("UPDATE orders SET state = 'declined' WHERE order_id = 'o1'")
        copy.commit()
    again = f"sqlite:///{tmp_path / 'again.db'}"
    arguments = ("--store", again, "--base", base, "--live", f"sqlite:///{wrong}", "--json")
    (difference, _) = past.towpath("rebuild", MODULE, "inventory", *arguments, code=1)
    assert (difference["table"], difference["key"], difference["columns"]) == (
        "orders",
        ["o1"],
        {"state": ["declined", state]},
    )


def test_all_that_a_replay_gives_goes_to_topics_aside_once(past: Past) -> None:
    before = past.ids("orders.accepted")
    for jobs in ("1", "2"):
        past.towpath("replay", MODULE, "intake", "--into", "look", "--yes", "--json", "--jobs", jobs)
    assert past.ids("look.orders.accepted") == before
    assert past.ids("orders.accepted") == before


def test_a_deleted_output_comes_back_once_also_when_the_repair_is_killed(past: Past, tmp_path: Path) -> None:
    before = past.ids("orders.accepted")
    admin = AdminClient({"bootstrap.servers": past.settings.bootstrap})
    gone = [TopicPartition("orders.accepted", partition, 4) for partition in range(4)]
    for deleted in admin.delete_records(gone).values():
        deleted.result(30)
    lost = before - past.ids("orders.accepted")
    assert len(lost) > 8
    *_, summary = past.towpath("replay", MODULE, "intake", "--emit", "missing", "--json", "--jobs", "2", code=1)
    assert summary["groups"] == [{"kind": "new", "shape": "lost: orders.accepted", "events": len(lost)}]
    assert past.ids("orders.accepted") == before - lost, "nothing is published without --yes"
    assert _told(past, tmp_path, jobs=3) == _told(past, tmp_path, jobs=1)

    inputs = Inputs(past.settings, orders, orders.stage("intake"))
    window, plan = inputs.window(), Plan(tmp_path)
    for _ in Replay(inputs, window, Options(keep="missing"), tmp_path, plan).findings():
        pass
    dying = Repair(past.settings, orders, "intake")
    dying.look(plan, window.since)
    publishing = dying.publish(plan, rate=30.0)
    assert next(publishing) == 3
    dying._writer._writer._producer.begin_transaction()  # and it dies in the middle of the next
    dying._writer._writer._produce(next(plan.chunks())[3:5])
    assert past.ids("orders.accepted").total() == before.total() - len(lost) + 3

    with Repair(past.settings, orders, "intake") as second:  # by the same plan, which knows nothing of the first
        second.look(plan, window.since)
        assert sum(plan.counts().values()) == len(lost) - 3

    for count in (len(lost) - 3, 0):
        past.towpath("replay", MODULE, "intake", "--emit", "missing", "--yes", "--json", "--jobs", "2", code=1 if count else 0)
        assert (f"{count} published" in past.said) == bool(count), past.said
        assert past.ids("orders.accepted") == before
    decode = Codec([Receipt], FolderRegistry(orders.schemas)).decoder(Receipt)
    receipts = [decode(record.value) for record in past.records("orders.receipts")]
    (repair,) = [receipt for receipt in receipts if receipt.instance == "replay"]
    assert (repair.stage, repair.outputs, repair.ranges) == ("intake", {"orders.accepted": len(lost) - 3}, ())


def _told(past: Past, folder: Path, jobs: int) -> tuple[list[str], str]:
    """All that a replay with differences says, as JSON and as a page, but for the time and the order of lines."""
    report = folder / "report.html"
    told = past.towpath("replay", MODULE, "intake", "--json", "--report", str(report), "--jobs", str(jobs), code=1)
    page = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "", report.read_text("utf-8"))
    return sorted(map(json.dumps, told)), page
