"""Which metrics there are: those of the catalogue, without which nothing is exported.

The one rule: a histogram is its three series, as Prometheus stores it.
"""

import re
from pathlib import Path
from typing import Final

from streams.catalogue import FAMILIES, PROCESS

_RULES: Final = Path(__file__).parents[2] / "deploy" / "prometheus" / "rules"


def exported() -> set[str]:
    """What workers, the lag exporter and reconciliations serve, and `up`, which Prometheus adds to whatever it scrapes."""
    found = {"up"}
    for family in (*FAMILIES.values(), *PROCESS):
        name = family.name
        found |= {f"{name}_bucket", f"{name}_count", f"{name}_sum"} if family.kind == "histogram" else {name}
    return found


def recorded() -> set[str]:
    """What Prometheus works out by our rules."""
    return {name for path in _RULES.glob("*.yml") for name in re.findall(r"- record: (\S+)", path.read_text("utf-8"))}
