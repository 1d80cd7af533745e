"""The results of benchmarks as rows of a table: what was measured, ours, what is beside it, ratio, target.

The one rule: a row says nothing that is not in `results.json`, and a target that is missed stands in it as it is.
"""

from collections.abc import Callable
from typing import Any, Final

Result = dict[str, Any]
Rows = list[list[str]]


def _peers(result: Result) -> Rows:
    speeds, versions = result["median"], result["versions"]
    ours = f"{speeds['towpath']:,.0f} msgs/s"
    rows = []
    for name, share in result["ratios"].items():
        said = " ".join(filter(None, (name, versions.get(name, ""))))
        target = f"≥ {result['target']}" if name == "bare copy" else ""
        what = f"one stage beside {said}, {result['guarantees'][name]}"
        rows.append([what, ours, f"{speeds[name]:,.0f} msgs/s", f"{share:.2f}", target])
    return rows + [
        [f"one stage beside {name}", ours, f"missing: {why.splitlines()[0]}", "", ""] for name, why in result["missing"].items()
    ]


def _whole(result: Result) -> Rows:
    many, one = (f"{result['median'][name]:,.0f} orders/s" for name in ("a process for each stage", "one process"))
    what = f"{result['orders']:,} orders through all stages, a process for each"
    return [[what, many, f"all in one process {one}", f"{result['ratio']:.2f}", ""]]


def _scaling(result: Result) -> Rows:
    rows, one = [], f"1 worker {result['median']['1 of 4']:,.0f} msgs/s"
    for name, share in result["ratios to one worker with 4 partitions"].items():
        workers, _, partitions = name.partition(" of ")
        title = f"workers: {workers}, partitions: {partitions}"
        rows.append([title, f"{result['median'][name]:,.0f} msgs/s", one, f"{share:.2f}", ""])
    return rows


def _features(result: Result) -> Rows:
    rows, speeds = [], result["median"]
    for name, before in result["before"].items():
        target = f"≥ {result['targets'][name]}" if name in result["targets"] else ""
        beside = f"{before} {speeds[before]:,.0f} msgs/s"
        rows.append([name, f"{speeds[name]:,.0f} msgs/s", beside, f"{result['ratios'][name]:.2f}", target])
    return rows


def _memory(result: Result) -> Rows:
    title = f"{result['minutes']:g} min of {result['orders/s']} orders/s"
    return [
        [f"{stage}: {title}", f"{found['MiB at the end']:.0f} MiB", f"{found['MiB at the start']:.0f} MiB at the start",
         f"{found['MiB/h']:+.1f} MiB/h", ""]
        for stage, found in result["workers"].items()
    ]  # fmt: skip


def _flame(result: Result) -> Rows:
    said = "[stage.svg](stage.svg)" if "shares" in result else f"missing: {result['missing']}"
    return [["flame graph of a stage", said, "", "", ""]]


def _latency(result: Result) -> Rows:
    rows = []
    for rate, found in result["rates"].items():
        for share in ("p50", "p99"):
            ours, bare = (list(found[name][f"{share} until visible in"].items()) for name in ("towpath", "bare"))
            for hop in (3, 5) if share == "p99" else (5,):
                (topic, mine), (_, theirs) = ours[hop], bare[hop]
                target = "< 250 ms" if (share, rate, hop) == ("p99", "100 orders/s", 5) else ""
                cells = [f"{rate}: {share} until {topic}", f"{mine:.0f} ms", f"{hop} bare copies {theirs:.0f} ms"]
                rows.append([*cells, f"{mine / theirs:.1f}", target])
    return rows


def _lanes(result: Result) -> Rows:
    full, cycles = result["restore"], result["cycles until done"]
    count = f"{full['parked']:,}"
    return [
        [f"restore {count} parked records of 1 KiB", f"{full['seconds']:.1f} s", "", "", f"< {full['targets']['seconds']} s"],
        [f"memory of {count} parked records of 1 KiB", f"{full['MiB']:.0f} MiB", "", "", f"< {full['targets']['MiB']} MiB"],
        ["most cycles that failing keys cost another", f"{cycles['most cycles']}", "", "", f"≤ {cycles['target']}"],
    ]


def _replay(result: Result) -> Rows:
    ours, live = (f"{result['median'][name]:,.0f} msgs/s" for name in ("replay", "live"))
    cells = [f"replay of {result['records']:,} orders ({result['peak MiB']:.0f} MiB)", ours, f"the live stage {live}"]
    return [[*cells, f"{result['ratio']:.2f}", f"≥ {result['target']}"]]


def _tracing(result: Result) -> Rows:
    off, targets = f"without traces {result['median']['off']:,.0f} msgs/s", result["targets"]
    rows = []
    for name, share in result["ratios"].items():
        target = f"≥ {targets[name]}" if name in targets else ""
        rows.append([f"traces: {name}", f"{result['median'][name]:,.0f} msgs/s", off, f"{share:.2f}", target])
    return rows


def _reconcile(result: Result) -> Rows:
    title = f"{result['events']:,} events"
    return [
        [f"{title} taken in and judged", f"{result['events/s']:,.0f} events/s", "", "", ""],
        [f"{title}: memory at most", f"{result['MiB']:.0f} MiB", "", "", f"< {result['targets']['MiB']} MiB for 10 million"],
    ]


def _store(result: Result) -> Rows:
    speeds = {name: sorted(found)[len(found) // 2] for name, found in result["orders/s"].items()}
    ours, single = f"{speeds['a batch']:,.0f} orders/s", f"one by one {speeds['one by one']:,.0f} orders/s"
    return [[f"inventory, {result['batch']} orders a transaction", ours, single, f"{result['ratio']:.1f}", ""]]


def _postgres(result: Result) -> Rows:
    rows = []
    for what, found in result["orders/s"].items():
        speeds = {name: sorted(measured)[len(measured) // 2] for name, measured in found.items()}
        ours, single = f"{speeds['a batch']:,.0f} orders/s", f"one by one {speeds['one by one']:,.0f} orders/s"
        title = f"{what}, {result['batch']} orders a transaction"
        rows.append([title, ours, single, f"{result['ratios'][what]:.1f}", f"≥ {result['target']:.0f}"])
    return rows


def _codecs(result: Result) -> Rows:
    return [
        [what, f"{found['towpath']:.1f} µs", f"fastavro + msgspec {found['fastavro + msgspec']:.1f} µs", f"{factor:.1f}", ""]
        for (what, found), factor in zip(result["microseconds"].items(), result["times as fast"].values(), strict=True)
    ]


ROWS: Final[dict[str, Callable[[Result], Rows]]] = {
    "peers": _peers,
    "latency": _latency,
    "flow": _whole,
    "features": _features,
    "scaling": _scaling,
    "memory": _memory,
    "flame": _flame,
    "lanes": _lanes,
    "tracing": _tracing,
    "replay": _replay,
    "reconcile": _reconcile,
    "store": _store,
    "postgres": _postgres,
    "codec": _codecs,
}
"""By benchmark, in the order of the page."""
