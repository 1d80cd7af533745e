"""The dashboards are those of their code, ask for what is exported, and say what they show. tests/e2e draws them."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.dashboards import GRAFANA, asked, dashboards, panels
from tests.support.exported import exported, recorded
from tests.support.promql import metrics

ALL = dashboards()


def test_the_files_are_those_of_the_code(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "dashboards", tmp_path], cwd=GRAFANA, check=True)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_bytes() for path in (GRAFANA / "json").iterdir()}, "make dashboards"


def test_there_is_one_for_each_question() -> None:
    assert ALL.keys() == {"flow", "stages", "lag", "broker", "worker", "reconcile"}
    assert {page["uid"] for page in ALL.values()} == {f"towpath-{name}" for name in ALL}


@pytest.mark.parametrize("page", ALL.values(), ids=ALL)
def test_a_dashboard_asks_for_what_is_exported(page: dict[str, Any]) -> None:
    for title, expression in asked(page, rate="1m", over="1h"):
        assert "$" not in expression, title
        assert metrics(expression), title
        assert metrics(expression) - exported() - recorded() - {"ALERTS"} == set(), title
    variables = [each["query"] for each in page["templating"]["list"] if each["type"] == "query"]
    named = [re.fullmatch(r"label_values\((\w+), (?:topology|stage)\)", query) for query in variables]
    assert all(found and found[1] in exported() for found in named), variables


@pytest.mark.parametrize("page", ALL.values(), ids=ALL)
def test_a_panel_says_what_it_shows_and_stands_alone(page: dict[str, Any]) -> None:
    drawn = panels(page)
    assert len(drawn) >= 5
    assert all(panel["title"] and panel["description"].endswith(".") for panel in drawn)
    assert all(panel["fieldConfig"]["defaults"]["unit"] for panel in drawn)
    assert len({panel["title"] for panel in drawn}) == len(drawn)
    assert len({panel["id"] for panel in page["panels"]}) == len(page["panels"])
    places = [(at["x"], at["y"]) for at in (panel["gridPos"] for panel in drawn)]
    assert len(set(places)) == len(places), "one panel lies on another"
