"""Orders as traces in a real Zipkin, read through its API: from `towpath send` over all stages, and over a retry."""

import json
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.config import Settings
from tests.support.reader import Reader
from tests.support.workers import Crew, towpath, wait_for
from topologies.orders.faults import Fate, Faults
from topologies.orders.seed import seed

MODULE = "topologies.orders"
ORDERS = 20
BUSY = 0.3
Span = dict[str, Any]


class Zipkin:
    """Its API."""

    def __init__(self, endpoint: str) -> None:
        self._base = endpoint.removesuffix("/spans")

    def traces(self, **tag: str) -> list[list[Span]]:
        """Every trace with a span that has this tag."""
        ((name, value),) = tag.items()
        asked = urllib.parse.urlencode({"limit": 1000, "annotationQuery": f"{name.replace('_', '.')}={value}"})
        with urllib.request.urlopen(f"{self._base}/traces?{asked}", timeout=10) as reply:  # noqa: S310  # a server of ours
            found: list[list[Span]] = json.load(reply)
        return found

    def trace(self, trace_id: str) -> list[Span]:
        """One of them."""
        with urllib.request.urlopen(f"{self._base}/trace/{trace_id}", timeout=10) as reply:  # noqa: S310  # as above
            found: list[Span] = json.load(reply)
        return found

    def of(self, order: str) -> dict[str, list[Span]]:
        """The traces of an order, by id."""
        return {trace[0]["traceId"]: trace for trace in self.traces(messaging_kafka_message_key=order)}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[dict[str, str], Zipkin]]:
    """`towpath up --traces`, and what it says; nothing of it is left at the end."""
    environment = {"TOWPATH_DIR": str(tmp_path), "TOWPATH_STORE": f"sqlite:///{tmp_path / 'store.db'}"}
    try:
        up = json.loads(towpath(environment, "up", "--traces"))
        endpoint = up["traces"]["endpoint"]
        yield environment | {"TOWPATH_BOOTSTRAP": up["bootstrap"], "OTEL_EXPORTER_ZIPKIN_ENDPOINT": endpoint}, Zipkin(endpoint)
    finally:
        down = json.loads(towpath(environment, "down"))
    assert not down["running"]
    assert not down["traces"]["running"]


def orders(path: Path) -> list[str]:
    line = {"sku": "sku", "name": "Lamp", "quantity": 1, "amount_minor": 1000}
    common = {"customer_id": "c", "store_id": "s", "placed_at": "2026-11-24T10:00:00Z", "currency": "USD", "lines": [line]}
    all_orders = [{"order_id": f"o{number}", **common} for number in range(ORDERS)]
    path.write_text("".join(json.dumps(order) + "\n" for order in all_orders), "utf-8")
    return [str(order["order_id"]) for order in all_orders]


def test_an_order_is_one_trace_over_all_stages_and_a_retry_another_with_a_link(
    tmp_path: Path, place: tuple[dict[str, str], Zipkin]
) -> None:
    environment, zipkin = place
    names = orders(tmp_path / "orders.jsonl")
    towpath(environment, "topics", "apply", MODULE)
    towpath(environment, "db", "upgrade", MODULE)
    seed(Settings.load(environment), map(json.loads, (tmp_path / "orders.jsonl").read_text("utf-8").splitlines()), 0)
    faults = {"TOWPATH_FAULTS_BUSY": str(BUSY), "TOWPATH_DECLINE_SHARE": "0"}
    with (
        Crew(tmp_path, environment | faults) as crew,
        Reader(environment["TOWPATH_BOOTSTRAP"], ["notifications.sent"]) as reader,
    ):
        worker = crew.start(MODULE, instance="a")
        crew.wait_until_ready(120)
        towpath(environment, "send", MODULE, "OrderSubmitted", str(tmp_path / "orders.jsonl"))
        wait_for(lambda: reader.count("notifications.sent") >= ORDERS, 120, "not every order has ended", crew.logs)
        assert worker.terminate()[0] == 0, worker.log[-3000:]  # with all that was to be exported
    fates = {name: Faults(busy=BUSY).fate(name) for name in names}
    good = next(name for name, fate in fates.items() if fate is Fate.GOOD)
    busy = next(name for name, fate in fates.items() if fate is Fate.BUSY)
    (whole,) = (trace for trace in zipkin.of(good).values() if ("orders.send", "send orders.submitted") in steps(trace))
    check_whole(whole)
    check_retried(zipkin, busy)
    check_transaction(zipkin, next(span for span in whole if span["name"] == "process orders.accepted"))


def steps(trace: list[Span]) -> set[tuple[str, str]]:
    return {(span["localEndpoint"]["serviceName"], span["name"]) for span in trace}


def check_whole(trace: list[Span]) -> None:
    """Every stage is in it, each span below one of it, and none began before what it is below."""
    assert steps(trace) >= {
        ("orders.send", "send orders.submitted"),
        ("orders.intake", "process orders.submitted"),
        ("orders.intake", "send orders.accepted"),
        ("orders.inventory", "process orders.accepted"),
        ("orders.inventory", "send inventory.reserved"),
        ("orders.payment", "process inventory.reserved"),
        ("orders.payment", "send payments.captured"),
        ("orders.settlement", "process payments.captured"),
        ("orders.inventory", "process payments.captured"),
        ("orders.inventory", "send orders.closed"),
        ("orders.notification", "process orders.closed"),
        ("orders.notification", "send notifications.sent"),
    }
    known = {span["id"]: span for span in trace}
    assert len(known) == len(trace)
    (root,) = (span for span in trace if "parentId" not in span)
    assert root["name"] == "send orders.submitted"
    for span in trace:
        if span is not root:
            assert known[span["parentId"]]["timestamp"] <= span["timestamp"]


def check_transaction(zipkin: Zipkin, processed: Span) -> None:
    """What a record was handled in is a trace of its own, which has the database's part and Kafka's, and names the record's."""
    asked = processed["tags"]["towpath.transaction.trace_id"]
    trace = {span["name"]: span for span in zipkin.trace(asked)}
    assert set(trace) == {"transaction orders.inventory", "batch stock", "commit orders.inventory"}
    assert processed["traceId"] in trace["commit orders.inventory"]["tags"]["links"].split()
    assert trace["batch stock"]["tags"]["db.system.name"] == "sqlite"


def check_retried(zipkin: Zipkin, order: str) -> None:
    """The trace that began with its submission ends with a failure at payment; the last of those linked to it with its end."""
    found = zipkin.of(order)
    (first,) = (trace for trace in found.values() if ("orders.send", "send orders.submitted") in steps(trace))
    (failed,) = (span for span in first if "error" in span["tags"])
    assert (failed["name"], failed["tags"]["error"]) == ("process inventory.reserved", "Retry: the payment provider is busy")
    assert ("orders.payment", "send payments.captured") not in steps(first)
    again = [trace for trace in zipkin.traces(links=first[0]["traceId"]) if trace[0]["traceId"] in found]
    last = [trace for trace in again if ("orders.payment", "send payments.captured") in steps(trace)]
    assert len(last) == 1
    assert ("orders.notification", "send notifications.sent") in steps(last[0])
    times = Faults(busy=BUSY).times_busy(order)
    assert {span["tags"].get("towpath.attempt") for trace in again for span in trace} >= {str(times + 1)}
