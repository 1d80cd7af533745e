"""docs/faults.md: what came of each fault, written by the run itself.

The one rule: a miss stands there as a miss.
"""

import os
import platform
import statistics
from collections import Counter
from datetime import UTC, datetime
from typing import Final

import confluent_kafka
import msgspec

from streams.config import Settings
from streams.jars import VERSION
from streams.version import code_version
from tests.faults.arena import Round
from tests.faults.kinds import FAULTS, TARGETS
from tests.support.workers import ROOT

PAGE: Final = ROOT / "docs" / "faults.md"


class Result(msgspec.Struct):
    """One fault; `skipped` is the reason why it did not happen."""

    name: str
    round: Round
    skipped: str = ""

    @property
    def bad(self) -> bool:
        """Whether something is wrong with the product."""
        return bool(self.round.failure or self.round.anomalies)

    def line(self) -> str:
        """In a line, for whoever watches."""
        if self.skipped:
            return f"skipped: {self.skipped}"
        kinds = Counter(anomaly.kind for anomaly in self.round.anomalies)
        found = self.round
        failed = f"FAILED: {found.failure.strip().splitlines()[-1]}; " if found.failure else ""
        times = " ".join(f"{seconds:.1f}" for seconds in found.recoveries)
        wrong = dict(kinds) or "nothing wrong"
        return f"{failed}{found.orders} orders, {wrong}, recovered in {times} s, {found.ends}, {found.notes}"


def page(results: list[Result], load: float) -> str:
    """The whole page."""
    lines = [
        "# Faults, and what came of them",
        "",
        "Written by `make faults`; do not edit. How to run one: see [architecture.md](architecture.md#the-fault-suite).",
        "",
        *_circumstances(load),
        "",
        "| fault | orders | records | aborted | lost | doubled | out of order | other | recovered, s | target, s | ends |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *map(_row, results),
        "",
        *_legend(),
        "",
        "## What each does",
        "",
        *(f"- **{result.name}**: {_doc(result.name)}{_notes(result)}" for result in results),
        "",
    ]
    wrong = [(result.name, anomaly) for result in results for anomaly in result.round.anomalies]
    if wrong:
        lines += ["## Anomalies", "", *(f"- {name}: {a.kind}, {a.where}: {a.text}" for name, a in wrong[:100]), ""]
    failures = [result for result in results if result.round.failure]
    if failures:
        lines += ["## Failures", ""]
        lines += [f"- {result.name}: {result.round.failure.strip().splitlines()[-1][:300]}" for result in failures] + [""]
    return "\n".join(lines)


def _circumstances(load: float) -> list[str]:
    return [
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, Towpath {code_version(Settings.load(), f'{PAGE}:1')}, Kafka {VERSION},",
        f"confluent-kafka {confluent_kafka.__version__} (librdkafka {confluent_kafka.libversion()[0]}), "
        f"Python {platform.python_version()};",
        f"{os.cpu_count()} cores, load {load:.1f} before, {os.getloadavg()[0]:.1f} after: whatever else runs makes it slower.",
        "",
        "Three brokers, each a controller too, replication 3, min.insync.replicas 2, session 6 s; two workers of all stages;",
        "25 orders per second, open loop, 1 in 20 cancelled; a provider that is busy or silent now and then; PostgreSQL.",
    ]


def _row(result: Result) -> str:
    found = result.round
    if result.skipped:
        return f"| {result.name} | skipped: {result.skipped} |" + " |" * 9
    kinds = Counter(anomaly.kind for anomaly in found.anomalies)
    other = sum(kinds.values()) - kinds["lost"] - kinds["doubled"] - kinds["reordered"]
    counts = [kinds["lost"], kinds["doubled"], kinds["reordered"], other]
    said = " | ".join(map(str, counts))
    ends = ", ".join(f"{count}x {code}" for code, count in sorted(Counter(found.ends).items()))
    return (
        f"| {result.name} | {found.orders} | {found.records} | {found.undone} | {said} | {_times(found.recoveries)} "
        f"| {_target(result)} | {ends} |"
    )


def _times(seconds: list[float]) -> str:
    if not seconds:
        return "never"
    if len(seconds) == 1:
        return f"{seconds[0]:.1f}"
    return f"max of {len(seconds)}: {max(seconds):.1f}, median {statistics.median(seconds):.1f}"


def _target(result: Result) -> str:
    target = TARGETS.get(result.name)
    if target is None:
        return ""
    late = sum(seconds >= target for seconds in result.round.recoveries)
    return f"< {target:.0f}: " + (f"missed {late} times" if late or not result.round.recoveries else "met")


def _legend() -> list[str]:
    return [
        "*Recovered*: from the end of the fault (of a death: from the death) until every stage has committed again on each",
        "of its partitions; the first commit of anybody is sooner. *Lost* to *other* is what `streams/history.py` says of",
        "the records (read committed and not), the groups' offsets, the provider's ledger and the stock.",
        "*Aborted*: records of transactions that came to nothing. *Ends*: exit codes of workers that ended meanwhile and were",
        "started again (-9 and -15 are signals of the test, or the kernel's; 1 is a worker that gave up by itself).",
    ]


def _doc(name: str) -> str:
    return " ".join((FAULTS[name].__doc__ or "").split())


def _notes(result: Result) -> str:
    return f" *{'; '.join(result.round.notes)}.*" if result.round.notes else ""
