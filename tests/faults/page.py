"""docs/faults.md: what came of each fault, written by the run itself.

The one rule: a miss stands there as a miss. What a run says of a fault takes the place of what an earlier one said of it; each
line has its date.
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
RESULTS: Final = ROOT / "docs" / "faults.json"


class Result(msgspec.Struct):
    """One fault; `skipped` is the reason why it did not happen. `load` is the machine's at the end, of one minute.

    `counts` are the anomalies by kind; of the anomalies themselves the first twenty are kept.
    """

    name: str
    round: Round
    skipped: str = ""
    at: str = ""
    version: str = ""
    load: float = 0.0
    counts: dict[str, int] = {}

    @property
    def bad(self) -> bool:
        """Whether something is wrong with the product."""
        return bool(self.round.failure or self.round.anomalies or self.round.stands)

    def line(self) -> str:
        """In a line, for whoever watches."""
        if self.skipped:
            return f"skipped: {self.skipped}"
        found = self.round
        failed = f"FAILED: {_reason(found.failure)}; " if found.failure else ""
        failed += f"STANDS STILL: {found.stands[:300]}; " if found.stands else ""
        times = " ".join(f"{seconds:.1f}" for seconds in found.recoveries)
        wrong = self.counts or "nothing wrong"
        return f"{failed}{found.orders} orders, {wrong}, recovered in {times} s, {found.ends}, {found.notes}"


def result(name: str, round_: Round, skipped: str = "") -> Result:
    """A result of now."""
    version, now = code_version(Settings.load(), f"{PAGE}:1"), f"{datetime.now(UTC):%Y-%m-%d %H:%M}"
    counts = dict(Counter(str(anomaly.kind) for anomaly in round_.anomalies))
    round_.anomalies = round_.anomalies[:20]
    round_.failure = _reason(round_.failure) if round_.failure else ""  # a traceback names the folders of a machine
    return Result(name, round_, skipped, now, version, round(os.getloadavg()[0], 1), counts)


def write(results: list[Result]) -> None:
    """Put these in the place of what earlier runs said of these faults."""
    old = msgspec.json.decode(RESULTS.read_bytes(), type=list[Result]) if RESULTS.exists() else []
    found = {each.name: each for each in (*old, *results)}
    kept = [found[name] for name in FAULTS if name in found]
    RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=1) + b"\n")
    PAGE.write_text(page(kept), "utf-8")


def page(results: list[Result]) -> str:
    """The whole page."""
    lines = [
        "# Faults, and what came of them",
        "",
        "Written by `make faults`; do not edit. How it works: [architecture.md](architecture.md#the-fault-suite).",
        "",
        *_circumstances(),
        "",
        "| fault | orders | records | aborted | lost | doubled | out of order | other "
        "| each stage, s | each partition, s | target, s | ends | at |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
        *map(_row, results),
        "",
        *_legend(),
        "",
        "## What each does",
        "",
        *(f"- **{each.name}**: {_doc(each.name)}{_notes(each)}" for each in results),
        "",
    ]
    wrong = [(each.name, anomaly) for each in results for anomaly in each.round.anomalies]
    if wrong:
        lines += ["## Anomalies", "", *(f"- {name}: {a.kind}, {a.where}: {a.text}" for name, a in wrong[:100]), ""]
    failures = [each for each in results if each.round.failure or each.round.stands]
    if failures:
        lines += ["## Failures", ""]
        lines += [f"- {each.name}: {_why(each.round)}" for each in failures] + [""]
    return "\n".join(lines)


def _why(found: Round) -> str:
    """What went wrong, but for anomalies."""
    said = [_reason(found.failure)] if found.failure else []
    said += [f"nothing moved any more, with {found.stands[:300]}"] if found.stands else []
    return "; ".join(said)


def _reason(failure: str) -> str:
    """The first line of what an exception said."""
    return next((line for line in failure.splitlines() if "Error" in line and not line.startswith(" ")), "?")[:300]


def _circumstances() -> list[str]:
    return [
        f"Kafka {VERSION}, confluent-kafka {confluent_kafka.__version__} (librdkafka {confluent_kafka.libversion()[0]}), "
        f"Python {platform.python_version()}, {os.cpu_count()} cores.",
        "",
        "Three brokers, each a controller too, replication 3, min.insync.replicas 2, session 5 s; two workers of all stages;",
        "12 orders per second, open loop, 1 in 20 cancelled; a provider that is busy now and then; PostgreSQL. All share the",
        "machine; *at* has the load at the end of the round: whatever else runs makes recovery slower.",
    ]


def _row(result: Result) -> str:
    found = result.round
    if result.skipped:
        return f"| {result.name} | skipped: {result.skipped} |" + " |" * 10 + f" {result.at} |"
    kinds = Counter(result.counts)
    name = f"{result.name}: **failed**, see below" if found.failure or found.stands else result.name
    other = sum(kinds.values()) - kinds["lost"] - kinds["doubled"] - kinds["reordered"]
    counts = [kinds["lost"], kinds["doubled"], kinds["reordered"], other]
    said = " | ".join(map(str, counts))
    ends = ", ".join(f"{count}x {code}" for code, count in sorted(Counter(found.ends).items()))
    return (
        f"| {name} | {found.orders} | {found.records} | {found.undone} | {said} "
        f"| {_times(found.firsts) if found.firsts else ''} | {_times(found.recoveries)} | {_target(result)} "
        f"| {ends} | {result.at}, {result.version}, load {result.load} |"
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
    said = []
    for what, times in (("stage", result.round.firsts), ("partition", result.round.recoveries)):
        if times:  # a line of before these were noted has none for stages
            late = sum(seconds >= target for seconds in times)
            said.append(f"each {what} " + (f"missed {late} times" if late else "met"))
    return f"< {target:.0f}: {', '.join(said) or 'missed'}"


def _legend() -> list[str]:
    return [
        "*Each stage*, *each partition*: from the end of the fault (of a death: from the death) until every stage has",
        "committed again, and until it has on each of its partitions, as a reader of the receipts sees it. *Lost* to *other*",
        "is what `streams/history.py` says of the records (read committed and not), the groups' offsets, the provider's",
        "ledger and the stock.",
        "*Aborted*: records of transactions that came to nothing. *Ends*: exit codes of workers that ended meanwhile and were",
        "started again (-9 and -15 are signals of the test, or the kernel's; 1 is a worker that gave up by itself).",
    ]


def _doc(name: str) -> str:
    return " ".join((FAULTS[name].__doc__ or "").split())


def _notes(result: Result) -> str:
    return f" *{'; '.join(result.round.notes)}.*" if result.round.notes else ""
