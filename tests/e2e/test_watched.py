"""The order flow as it is watched: real workers, lag exporter, Prometheus and Alertmanager, and a webhook that is told.

The one rule: configuration, rules, routes and dashboards are those that are delivered; only intervals and addresses are ours.
"""

import gzip
import json
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from streams.config import Settings
from streams.local import FAILOVER, LocalKafka
from tests.support.contracts import Contracts
from tests.support.dashboards import asked, dashboards, panels
from tests.support.prometheus import ALERTMANAGER, Alertmanager, LagExporter, Prometheus, Receiver, program
from tests.support.promql import metrics
from tests.support.psp import KEY, SECRET, Psp
from tests.support.pump import sender
from tests.support.workers import ROOT, Crew, towpath, wait_for
from topologies.orders.faults import Faults
from topologies.orders.seed import seed

MODULE = "topologies.orders"
ORDERS = 200
FAULTS = Faults(busy=0.1, refused=0.05, bug=0.05, away_after=40, away_for=6.0)
DEAD = {("intake", "DecodeError"), ("payment", "Reject"), ("notification", "KeyError")}
DEPLOY = ROOT / "deploy"
ALL = dashboards()

pytestmark = pytest.mark.timeout(400)


class Watched:
    """The flow and whoever watches it."""

    def __init__(self, directory: Path, bootstrap: str) -> None:
        self.directory = directory
        self.began = time.time()
        self.receiver = Receiver()
        self.logs: Callable[[], str] = str
        self._reconciled = directory / "reconciled.prom"
        self._environment = {
            "TOWPATH_BOOTSTRAP": bootstrap,
            "TOWPATH_DIR": str(directory),
            "TOWPATH_STORE": f"sqlite:///{directory / 'store.db'}",
            "TOWPATH_KAFKA": "statistics.interval.ms=500",
            "OTEL_EXPORTER_ZIPKIN_ENDPOINT": f"{self.receiver.url}/spans",
            **FAULTS.variables(),
        }
        self._sender = sender(bootstrap)
        with gzip.open(ROOT / "topologies" / "orders" / "data" / "baskets.jsonl.gz") as sample:
            self._orders: list[dict[str, Any]] = [json.loads(line) for line in islice(sample, ORDERS)]

    def start(self, opened: ExitStack) -> None:
        """Start all of them, and wait until everything is seen. `opened` ends them."""
        opened.enter_context(self.receiver)
        psp = opened.enter_context(Psp(self.directory))
        self._environment |= {"TOWPATH_PSP_URL": psp.url, "TOWPATH_PSP_API_KEY": KEY, "TOWPATH_PSP_WEBHOOK_SECRET": SECRET}
        towpath(self._environment, "topics", "apply", MODULE)
        towpath(self._environment, "db", "upgrade", MODULE)
        seed(Settings.load(self._environment), self._orders)
        crew = opened.enter_context(Crew(self.directory, self._environment))
        self.worker = crew.start(MODULE, instance="watched")
        lag = opened.enter_context(LagExporter(self.directory, MODULE, self._reconciled, self._environment))
        alertmanager = opened.enter_context(Alertmanager(self._routes()))
        self.prometheus = opened.enter_context(Prometheus(self._rules(self.worker.port, lag.port, alertmanager.port)))
        crew.wait_until_ready()
        self.logs = lambda: f"{crew.logs()}\n{lag.log()}\n{self.prometheus.log()}\n{alertmanager.log()}"
        self._wait("sum(up) + sum(towpath_lag_up)", 3, "not all is scraped")

    def work(self) -> None:
        """Orders, and what is none; then a reconciliation, before which somebody has written where only stages may."""
        contracts = Contracts(ROOT / "schemas")
        self.send_dirt()
        for order in self._orders:
            value = contracts.encode("OrderSubmitted", order | {"placed_at": datetime.fromisoformat(order["placed_at"])})
            self._sender.produce("orders.submitted", value, order["order_id"], headers=[("id", uuid.uuid4().hex)])
        assert self._sender.flush(30) == 0
        done = 'sum(towpath_parked_records{kind=~"retry|queued"}) == 0 and sum(towpath_group_lag_records) == 0'
        self._wait(f"count({done} and sum(towpath_e2e_duration_seconds_count) > {ORDERS // 2})", 1, "not all gets through")
        self._sender.produce("notifications.sent", b"", b"nobody", headers=[("id", uuid.uuid4().hex)])
        assert self._sender.flush(30) == 0
        towpath(self._environment, "reconcile", MODULE, "--metrics", str(self._reconciled), code=1)
        self._wait('count(towpath_reconcile_differences{kind="all"})', 1, "the reconciliation is not seen")

    def send_dirt(self) -> None:
        """Records that are no orders."""
        for number in range(3):
            self._sender.produce("orders.submitted", b"this is no order", f"no-order-{number}")
        assert self._sender.flush(30) == 0

    def _wait(self, expression: str, value: float, what: str) -> None:
        wait_for(lambda: self.prometheus.value(expression) == value, 120, what, self.logs)

    def _rules(self, worker: int, lag: int, alertmanager: int) -> Path:
        folder = self.directory / "prometheus"
        shutil.copytree(DEPLOY / "prometheus", folder)
        for name, port in (("workers", worker), ("lag", lag)):
            (folder / "targets" / f"{name}.yml").write_text(f"- targets: [127.0.0.1:{port}]\n")
        _change(folder / "prometheus.yml", r"_interval: \S+", "_interval: 1s")
        _change(folder / "prometheus.yml", "127.0.0.1:9093", f"127.0.0.1:{alertmanager}")
        return folder

    def _routes(self) -> Path:
        folder = self.directory / "alertmanager"
        shutil.copytree(DEPLOY / "alertmanager", folder)
        _change(folder / "alertmanager.yml", r"group_(wait|interval): \S+", r"group_\1: 1s")
        _change(folder / "alertmanager.yml", r"http://127.0.0.1:\d+", self.receiver.url)
        return folder


def _change(path: Path, pattern: str, by: str) -> None:
    text, count = re.subn(pattern, by, path.read_text("utf-8"))
    assert count, f"{path.name} has no {pattern}"
    path.write_text(text, "utf-8")


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """The flow has done its work, and is still watched."""
    for names in (("prometheus",), ALERTMANAGER):  # before anything is started in vain
        program(*names)
    directory = tmp_path_factory.mktemp("watched")
    with ExitStack() as opened:
        kafka = opened.enter_context(LocalKafka.start(directory / "kafka", overrides=FAILOVER))  # its topics are everybody's
        watch = Watched(directory, kafka.bootstrap)
        watch.start(opened)
        watch.work()
        yield watch


def test_dead_letters_and_what_does_not_add_up_are_told_to_whom_it_concerns(watched: Watched) -> None:
    def told(path: str, name: str, *labels: str) -> set[tuple[str, ...]]:
        alerts = [alert for alert in watched.receiver.alerts(path) if alert["labels"]["alertname"] == name]
        for alert in alerts:
            assert (ROOT / alert["annotations"]["runbook_url"]).is_file()
        return {tuple(alert["labels"][label] for label in labels) for alert in alerts}

    def dead() -> set[tuple[str, ...]]:
        return told("/ticket", "TowpathDeadLetters", "stage", "error")

    wait_for(lambda: dead() >= DEAD, 60, "the dead letters are not told", lambda: f"{dead()}\n{watched.receiver.told}")
    wait_for(lambda: told("/page", "TowpathReconcileDiffers", "topology") == {("orders",)}, 60, "the difference is not told")


def test_every_rule_is_at_work_and_finds_the_metrics_that_it_goes_by(watched: Watched) -> None:
    rules = [rule for group in watched.prometheus.get("/api/v1/rules")["data"]["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in rules if rule["health"] != "ok"} == set()
    wanted = {name for rule in rules for name in metrics(rule["query"])}
    assert wanted - set(watched.prometheus.get("/api/v1/label/__name__/values")["data"]) == set()


def test_dots_of_a_latency_panel_lead_to_traces_that_are_there(watched: Watched) -> None:
    (slow,) = (panel for panel in panels(ALL["flow"]) if panel["title"] == "From submission to the end")
    assert all(target["exemplar"] for target in slow["targets"])
    dots = watched.prometheus.exemplars("towpath_e2e_duration_seconds_bucket", watched.began)
    traces = {span["traceId"] for path, spans in watched.receiver.told if path == "/spans" for span in spans}
    assert dots
    assert {dot["labels"]["trace_id"] for dot in dots} <= traces


@pytest.mark.parametrize("page", ALL.values(), ids=ALL)
def test_no_panel_is_empty(watched: Watched, page: dict[str, Any]) -> None:
    empty = [
        (title, expression)
        for title, expression in asked(page, rate="5s", over="1m")
        if not watched.prometheus.drawn(expression, watched.began)
    ]
    assert empty == []


def test_a_worker_that_is_dead_is_missed_and_so_is_each_reader_with_something_to_read(watched: Watched) -> None:
    watched.worker.kill()  # the last test: nobody works from here on
    watched.send_dirt()

    def noticed() -> set[tuple[str, str]]:
        alerts = (alert["labels"] for alert in watched.prometheus.get("/api/v1/alerts")["data"]["alerts"])
        return {(alert["alertname"], alert.get("stage", "")) for alert in alerts}

    wanted = {("TowpathWorkerDown", ""), ("TowpathNobodyReads", "intake")}
    wait_for(lambda: noticed() >= wanted, 60, "nobody is missed", lambda: f"{noticed()}\n{watched.logs()}")
    assert [stage for name, stage in noticed() if name == "TowpathNobodyReads"] == ["intake"], "the others have nothing to read"
