"""No alert without what makes it useful: a page in the runbook, tests that it fires and that it is silent, metrics that exist.

The one rule: nothing of Prometheus is needed here; tests/integration/test_alerts.py asks the real one.
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.exported import exported, recorded
from tests.support.promql import metrics

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "deploy" / "prometheus" / "rules").glob("*.yml"))
TESTS = sorted((ROOT / "deploy" / "prometheus" / "tests").glob("*.yml"))
INHIBITIONS = (ROOT / "deploy" / "alertmanager" / "alertmanager.yml").read_text("utf-8").partition("inhibit_rules:")[2]
PAGES = ROOT / "docs" / "runbook"


class Rule:
    """One rule of a file, as its text says it: promtool holds the files to YAML."""

    def __init__(self, text: str) -> None:
        kind, self.name = re.findall(r"- (alert|record): (\S+)", text)[0]
        self.alert = kind == "alert"
        self.severity = "".join(re.findall(r"severity: (\w+)", text))
        self.annotations = dict(re.findall(r"^ {10}(\w+): (.+)$", text, re.MULTILINE))
        (one, many) = re.findall(r"^ {8}expr: (?:(?!\|)(.+)|\|\n((?: {10,}.+\n)+))", text, re.MULTILINE)[0]
        self.expression = one or many


def rules() -> Iterator[Rule]:
    for path in RULES:
        text = path.read_text("utf-8")
        places = [found.start() for found in re.finditer(r"^ +- (?:alert|record):", text, re.MULTILINE)]
        for begin, end in pairwise([*places, len(text)]):
            yield Rule(text[begin:end])


ALL = list(rules())
ALERTS = [rule for rule in ALL if rule.alert]


def shown(name: str, *, firing: bool) -> bool:
    """Whether promtool is told to expect it, or to expect nothing of it."""
    wanted = r"\n +- exp_labels:" if firing else r" \[\]"
    return any(re.search(rf"alertname: {name}\n +exp_alerts:{wanted}", path.read_text("utf-8")) for path in TESTS)


def test_the_rules_are_all_found() -> None:
    text = "".join(path.read_text("utf-8") for path in RULES)
    assert len(ALL) == text.count("expr:") > 20
    assert len({rule.name for rule in ALL}) == len(ALL)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_says_how_bad_it_is_and_what_to_do(alert: Rule) -> None:
    assert alert.severity in ("page", "ticket")
    assert alert.annotations.keys() == {"summary", "description", "runbook_url"}
    assert alert.annotations["runbook_url"] == f"docs/runbook/{alert.name}.md"
    page = (PAGES / f"{alert.name}.md").read_text("utf-8")
    parts = re.split(r"^(#+ .+)$", page, flags=re.MULTILINE)
    assert parts[1::2] == [f"# {alert.name}", "## What it means", "## Look at", "## Do"]
    assert all(part.strip() for part in parts[4::2]), "a part of the page is empty"
    index = (ROOT / "docs" / "runbook.md").read_text("utf-8")
    assert re.search(rf"\| \[{alert.name}\]\(runbook/{alert.name}\.md\) \| {alert.severity} \|", index), (
        "not in the runbook's list"
    )


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_is_shown_to_fire_and_to_be_silent(alert: Rule) -> None:
    assert shown(alert.name, firing=True)
    assert shown(alert.name, firing=False)


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: rule.name)
def test_a_rule_goes_by_metrics_that_exist(rule: Rule) -> None:
    assert metrics(rule.expression)
    assert metrics(rule.expression) - recorded() - exported() == set()


def test_no_page_is_left_of_an_alert_that_is_gone_and_no_silence() -> None:
    names = {alert.name for alert in ALERTS}
    assert {path.stem for path in PAGES.glob("*.md")} == names
    assert set(re.findall(r"Towpath\w+", INHIBITIONS)) <= names
