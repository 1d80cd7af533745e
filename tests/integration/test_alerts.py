"""The rules and routes under deploy/, by Prometheus' and Alertmanager's own tools. tests/unit/test_alerts.py needs neither."""

import json
import re
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.prometheus import Alertmanager, program, run
from tests.support.workers import wait_for

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
ROUTES = DEPLOY / "alertmanager"


def test_prometheus_takes_the_configuration_and_finds_all_rules() -> None:
    said = run(program("promtool"), "check", "config", "prometheus.yml", directory=PROMETHEUS)
    there = sum(path.read_text("utf-8").count("expr:") for path in (PROMETHEUS / "rules").glob("*.yml"))
    assert sum(map(int, re.findall(r"(\d+) rules found", said))) == there > 20


@pytest.mark.parametrize("path", sorted((PROMETHEUS / "tests").glob("*.yml")), ids=lambda path: path.stem)
def test_alerts_fire_and_are_silent_as_their_tests_say(path: Path) -> None:
    assert "SUCCESS" in run(program("promtool"), "test", "rules", path.name, directory=path.parent)


@pytest.mark.parametrize("severity", ["page", "ticket"])
def test_an_alert_goes_where_its_severity_says(severity: str) -> None:
    routes = (program("amtool"), "config", "routes", "test", "--config.file=alertmanager.yml")
    assert "SUCCESS" in run(program("amtool"), "check-config", "alertmanager.yml", directory=ROUTES)
    labels = (f"severity={severity}", "alertname=TowpathAny", "stage=payment")
    run(*routes, f"--verify.receivers={severity}", *labels, directory=ROUTES)


@pytest.mark.parametrize(
    ("cause", "effect", "same", "other"),
    [
        ("TowpathDependencyHeld", "TowpathLagging", "stage", "intake"),
        ("TowpathNobodyReads", "TowpathPartitionStalled", "stage", "intake"),
        ("TowpathErrorBudgetFast", "TowpathDeadLetters", "stage", "intake"),
        ("TowpathLatencyBudgetFast", "TowpathLatencyBudgetSlow", "topology", "parcels"),
        ("TowpathPartitionsOffline", "TowpathUnderReplicated", "topic", "orders.accepted"),
    ],
)
def test_what_follows_from_an_alert_is_silent_and_the_same_elsewhere_is_not(
    alertmanager: Alertmanager, cause: str, effect: str, same: str, other: str
) -> None:
    labels = {"topology": cause, "stage": "payment", "topic": "inventory.reserved"}  # a topology of its own for each case
    elsewhere = labels | {same: other}
    sent = [{"alertname": cause, **labels}, {"alertname": effect, **labels}, {"alertname": effect, **elsewhere}]
    body = json.dumps([{"labels": each} for each in sent]).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{alertmanager.port}/api/v2/alerts", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as reply:  # noqa: S310  # our own
        assert reply.status == 200

    def silent() -> dict[str, bool]:
        alerts = alertmanager.get("/api/v2/alerts", filter=f'alertname="{effect}"')
        return {alert["labels"][same]: bool(alert["status"]["inhibitedBy"]) for alert in alerts}

    wait_for(lambda: silent() == {labels[same]: True, other: False}, 30, "is not silenced", lambda: f"{silent()}")


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alertmanager]:
    folder = tmp_path_factory.mktemp("alertmanager")
    shutil.copy(ROUTES / "alertmanager.yml", folder)
    with Alertmanager(folder) as server:
        yield server
