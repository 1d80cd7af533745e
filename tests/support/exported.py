"""Which metrics there are: those of the page of metrics, which tests/unit/test_metrics_page.py holds against the code.

The one rule: a histogram is its three series, as Prometheus stores it.
"""

import re
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).parents[2]


def exported() -> set[str]:
    """What workers, the lag exporter and reconciliations serve, and `up`, which Prometheus adds to whatever it scrapes."""
    page = (_ROOT / "docs" / "metrics.md").read_text("utf-8")
    found = {"up"}
    for names, kind in re.findall(r"^\| (`[^|]+`) \| ([^|]+) \|", page, re.MULTILINE):
        for name in re.findall(r"`(\w+)`", names):
            found |= {f"{name}_bucket", f"{name}_count", f"{name}_sum"} if kind == "histogram" else {name}
    return found


def recorded() -> set[str]:
    """What Prometheus works out by our rules."""
    rules = (_ROOT / "deploy" / "prometheus" / "rules").glob("*.yml")
    return {name for path in rules for name in re.findall(r"- record: (\S+)", path.read_text("utf-8"))}
