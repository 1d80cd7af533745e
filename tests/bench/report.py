"""The results of benchmarks: where they were measured, and how they are written down.

The one rule: `results.json` holds everything that was measured, and the pages are made of it and of nothing else.
"""

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import confluent_kafka
import psutil

from streams.jars import VERSION
from tests.bench.processes import PEERS
from tests.bench.rows import ROWS

DOCS: Final = Path(__file__).parents[2] / "docs" / "bench"
PICTURES: Final = {
    "peers.svg": "Messages per second beside the peers",
    "latency.svg": "Latency by percentile",
    "features.svg": "What each feature costs",
    "memory.svg": "Memory of each worker over time",
}
_PACKAGES: Final = ("confluent-kafka", "fastavro", "faust-streaming", "msgspec", "psycopg", "sqlalchemy")


def machine() -> dict[str, Any]:
    """What the figures depend on. `load` is how many processes wanted a core in the minute before."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=DOCS.parents[1], capture_output=True, text=True, check=False
    )
    return {
        "at": datetime.now(UTC).isoformat(timespec="minutes"),
        "commit": commit.stdout.strip(),
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory GiB": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "kafka": VERSION,
        "librdkafka": confluent_kafka.libversion()[0],
        **{name: version(name) for name in _PACKAGES},
    }


def write(results: dict[str, Any]) -> None:
    """Put these results in place of older ones of the same names, and make the pages anew."""
    DOCS.mkdir(parents=True, exist_ok=True)
    file = DOCS / "results.json"
    known = json.loads(file.read_text("utf-8")) if file.exists() else {}
    known = {name: result for name, result in known.items() if name in ROWS}  # the rest is of benchmarks that are no more
    known |= json.loads(json.dumps(results), parse_float=lambda text: float(f"{float(text):.4g}"))
    file.write_text(json.dumps(known, indent=2, ensure_ascii=False) + "\n", "utf-8")
    (DOCS / "results.md").write_text(page(known), "utf-8")
    draw()


def draw() -> None:
    """The pictures, by the peers' environment: matplotlib is none of Towpath's. What is drawn is what `results.json` says."""
    try:
        done = subprocess.run([PEERS / "python", "-m", "tests.bench.plots", DOCS], cwd=DOCS.parents[1], check=False)
    except OSError:
        sys.stderr.write("no pictures: matplotlib is missing; run `make .peers/.ready`\n")
        return
    if done.returncode != 0:
        sys.stderr.write("not all pictures could be drawn: see above\n")


def page(results: dict[str, Any]) -> str:
    """The results for people."""
    lines = ["# Results", "", "Written by `make bench`; all of it is in [results.json](results.json).", ""]
    lines += ["| benchmark | measured | Towpath | beside it | ratio | target |", "|---|---|---|---|---|---|"]
    for name, rows in ROWS.items():
        if name in results:
            lines += [f"| {name} | {' | '.join(row)} |" for row in rows(results[name])]
    lines += [""]
    lines += [f"![{title}]({picture})" for picture, title in PICTURES.items() if (DOCS / picture).exists()]
    lines += ["", "## What was measured, and where", ""]
    for name, result in ((name, results[name]) for name in ROWS if name in results):
        where = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
        lines += [f"**{name}**{' (a quick run: no figures to go by)' if result['quick'] else ''}. {_flat(result['what'])}", ""]
        lines += [f"Load {result['machine']['load']} before and {result['load after']} after; {where}.", ""]
    return "\n".join(lines)


def _flat(text: str) -> str:
    return " ".join(text.split())


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
