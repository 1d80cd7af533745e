"""The results of benchmarks: where they were measured, and how they are written down.

The one rule: `results.json` holds everything that was measured, and the pages are made of it and of nothing else.
"""

import json
import os
import platform
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import confluent_kafka
import psutil

from streams.jars import VERSION

DOCS: Final = Path(__file__).parents[2] / "docs" / "bench"
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
    known |= json.loads(json.dumps(results), parse_float=lambda text: float(f"{float(text):.4g}"))
    file.write_text(json.dumps(known, indent=2, ensure_ascii=False) + "\n", "utf-8")
    (DOCS / "results.md").write_text(page(known), "utf-8")


def page(results: dict[str, Any]) -> str:
    """The results for people."""
    lines = ["# Results", "", "Written by `make bench`; all of it is in [results.json](results.json).", ""]
    lines += ["| benchmark | measured | Towpath | beside it | ratio | target |", "|---|---|---|---|---|---|"]
    for name, rows in _ROWS.items():
        if name in results:
            lines += [f"| {name} | {' | '.join(row)} |" for row in rows(results[name])]
    lines += ["", "## What was measured, and where", ""]
    for name, result in results.items():
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


def _stage(result: dict[str, Any]) -> list[list[str]]:
    ours, bare = result["median"]["towpath"], result["median"]["bare"]
    cells = [f"one stage, {result['records']:,} orders", f"{ours:,.0f} msgs/s", f"bare copy {bare:,.0f} msgs/s"]
    return [[*cells, f"{result['ratio']:.2f}", f"≥ {result['target']}"]]


def _latency(result: dict[str, Any]) -> list[list[str]]:
    rows = []
    for rate, found in result["rates"].items():
        for share in ("p50", "p99"):
            ours, bare = (list(found[name][f"{share} until visible in"].items()) for name in ("towpath", "bare"))
            for hop in (3, 5):
                (topic, mine), (_, theirs) = ours[hop], bare[hop]
                target = "< 250 ms" if (share, rate, hop) == ("p99", "100 orders/s", 5) else ""
                cells = [f"{rate}: {share} until {topic}", f"{mine:.0f} ms", f"{hop} bare copies {theirs:.0f} ms"]
                rows.append([*cells, f"{mine / theirs:.1f}", target])
    return rows


def _lanes(result: dict[str, Any]) -> list[list[str]]:
    idle, full, cycles = result["nothing parked"], result["restore"], result["cycles until done"]
    speeds = {name: sorted(found)[len(found) // 2] for name, found in idle["msgs/s"].items()}
    ours, without = f"{speeds['with']:,.0f} msgs/s", f"without lanes {speeds['without']:,.0f} msgs/s"
    count = f"{full['parked']:,}"
    return [
        ["nothing parked", ours, without, f"{idle['ratio']:.2f}", f"≥ {idle['target']}"],
        [f"restore {count} parked records of 1 KiB", f"{full['seconds']:.1f} s", "", "", f"< {full['targets']['seconds']} s"],
        [f"memory of {count} parked records of 1 KiB", f"{full['MiB']:.0f} MiB", "", "", f"< {full['targets']['MiB']} MiB"],
        ["most cycles that failing keys cost another", f"{cycles['most cycles']}", "", "", f"≤ {cycles['target']}"],
    ]


def _replay(result: dict[str, Any]) -> list[list[str]]:
    ours, live = (f"{result['median'][name]:,.0f} msgs/s" for name in ("replay", "live"))
    cells = [f"replay of {result['records']:,} orders ({result['peak MiB']:.0f} MiB)", ours, f"the live stage {live}"]
    return [[*cells, f"{result['ratio']:.2f}", f"≥ {result['target']}"]]


def _receipts(result: dict[str, Any]) -> list[list[str]]:
    speeds = {name: sorted(found)[len(found) // 2] for name, found in result["msgs/s"].items()}
    ours, without = f"{speeds['with']:,.0f} msgs/s", f"without receipts {speeds['without']:,.0f} msgs/s"
    return [["full batches", ours, without, f"{result['ratio']:.2f}", f"≥ {result['target']}"]]


def _tracing(result: dict[str, Any]) -> list[list[str]]:
    off, targets = f"without traces {result['median']['off']:,.0f} msgs/s", result["targets"]
    rows = []
    for name, share in result["ratios"].items():
        target = f"≥ {targets[name]}" if name in targets else ""
        rows.append([f"traces: {name}", f"{result['median'][name]:,.0f} msgs/s", off, f"{share:.2f}", target])
    return rows


def _reconcile(result: dict[str, Any]) -> list[list[str]]:
    title = f"{result['events']:,} events"
    return [
        [f"{title} taken in and judged", f"{result['events/s']:,.0f} events/s", "", "", ""],
        [f"{title}: memory at most", f"{result['MiB']:.0f} MiB", "", "", f"< {result['targets']['MiB']} MiB for 10 million"],
    ]


def _store(result: dict[str, Any]) -> list[list[str]]:
    speeds = {name: sorted(found)[len(found) // 2] for name, found in result["orders/s"].items()}
    ours, single = f"{speeds['a batch']:,.0f} orders/s", f"one by one {speeds['one by one']:,.0f} orders/s"
    return [[f"inventory, {result['batch']} orders a transaction", ours, single, f"{result['ratio']:.1f}", ""]]


def _postgres(result: dict[str, Any]) -> list[list[str]]:
    rows = []
    for what, found in result["orders/s"].items():
        speeds = {name: sorted(measured)[len(measured) // 2] for name, measured in found.items()}
        ours, single = f"{speeds['a batch']:,.0f} orders/s", f"one by one {speeds['one by one']:,.0f} orders/s"
        title = f"{what}, {result['batch']} orders a transaction"
        rows.append([title, ours, single, f"{result['ratios'][what]:.1f}", f"≥ {result['target']:.0f}"])
    return rows


def _codecs(result: dict[str, Any]) -> list[list[str]]:
    return [
        [what, f"{found['towpath']:.1f} µs", f"fastavro + msgspec {found['fastavro + msgspec']:.1f} µs", f"{factor:.1f}", ""]
        for (what, found), factor in zip(result["microseconds"].items(), result["times as fast"].values(), strict=True)
    ]


_ROWS: Final[dict[str, Callable[[dict[str, Any]], list[list[str]]]]] = {
    "stage": _stage,
    "latency": _latency,
    "lanes": _lanes,
    "replay": _replay,
    "receipts": _receipts,
    "tracing": _tracing,
    "reconcile": _reconcile,
    "store": _store,
    "postgres": _postgres,
    "codec": _codecs,
}
