"""`.peers/bin/python -m tests.bench.plots FOLDER`: pictures of the results, beside `results.json`.

The one rule: a picture shows what `results.json` says and nothing else, and the same results give the same picture.
"""

import json
import sys
from collections.abc import Callable, Mapping
from math import log10
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

Result = dict[str, Any]
_OURS, _THEIRS = "#1f6f8b", "#b9c6cc"
_SIZE: Final = (8.0, 4.0)


def _bars(speeds: Mapping[str, float], title: str) -> Figure:
    """From the slowest, at the bottom, to the first."""
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    names = list(speeds)[::-1]
    colours = [_OURS if "towpath" in name or name.startswith(("stage", "+")) else _THEIRS for name in names]
    bars = axes.barh(names, [speeds[name] for name in names], color=colours)
    axes.bar_label(bars, labels=[f"{speeds[name]:,.0f}" for name in names], padding=3)
    axes.set_xlabel("messages per second")
    axes.set_title(title)
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _peers(result: Result) -> Figure:
    said = result["guarantees"]
    speeds = {f"{name}\n({said[name]})": speed for name, speed in sorted(result["median"].items(), key=lambda one: -one[1])}
    return _bars(speeds, "One stage on the same orders, one process each")


def _features(result: Result) -> Figure:
    return _bars(result["median"], "What each feature costs")


def _latency(result: Result) -> Figure:
    figure = Figure(figsize=(8.0, 4.5), layout="constrained")
    axes = figure.subplots()
    for index, (rate, found) in enumerate(result["rates"].items()):
        for name, style in (("towpath", "-"), ("bare", ":")):
            shares = found[name]["percentiles"]
            places = [_nines(float(share)) for share in shares]
            label = f"{rate}, {'towpath' if name == 'towpath' else 'five bare copies'}"
            axes.plot(places, list(shares.values()), style, color=f"C{index}", label=label)
    ticks = {"fastest": 0, "50 %": 50, "90 %": 90, "99 %": 99, "99.9 %": 99.9, "slowest": 100}
    axes.set_xticks([_nines(share) for share in ticks.values()], list(ticks))
    axes.set_yscale("log")
    axes.set_ylabel("ms until the notification is visible")
    axes.set_title("Latency through all stages, open loop")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure


def _nines(share: float) -> float:
    """The usual scale of an HdrHistogram: each nine is as wide as the one before."""
    return -log10(1 - min(share, 99.99) / 100)


def _memory(result: Result) -> Figure:
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    at = [second / 60 for second in result["seconds"]]
    for stage, sizes in result["MiB"].items():
        axes.plot(at, sizes, label=stage)
    axes.set_xlabel("minutes")
    axes.set_ylabel("resident MiB")
    axes.set_ylim(0, 1.2 * max(max(sizes) for sizes in result["MiB"].values()))
    axes.set_title(f"Memory of each worker at {result['orders/s']} orders per second")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", ncols=3)
    return figure


_PICTURES: Final[dict[str, Callable[[Result], Figure]]] = {
    "peers": _peers,
    "latency": _latency,
    "features": _features,
    "memory": _memory,
}


def main(folder: Path) -> None:
    """Draw what there is."""
    mpl.rcParams["svg.hashsalt"] = "towpath"
    results = json.loads((folder / "results.json").read_text("utf-8"))
    for name, draw in _PICTURES.items():
        if name in results:
            draw(results[name]).savefig(folder / f"{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
