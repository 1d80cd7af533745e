"""Grafana's dashboards as they are committed: their panels, and what these ask.

The one rule: variables get the values that Grafana gives them when nothing is chosen.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
GRAFANA: Final = ROOT / "deploy" / "grafana"


def dashboards() -> dict[str, dict[str, Any]]:
    """Each dashboard by the name of its file."""
    return {path.stem: json.loads(path.read_text("utf-8")) for path in sorted((GRAFANA / "json").glob("*.json"))}


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """What it draws, without headings."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def asked(dashboard: dict[str, Any], *, rate: str, over: str) -> Iterator[tuple[str, str]]:
    """Each panel's title and expression, with variables filled in."""
    values = {"$topology": ".*", "$stage": ".*", "$__rate_interval": rate, "$__range": over}
    for panel in panels(dashboard):
        for target in panel["targets"]:
            expression = target["expr"]
            for name, value in values.items():
                expression = expression.replace(name, value)
            yield panel["title"], expression
