"""Replay: a stage's whole past run once more and compared, beside the live stage on the same topic.

The one rule: all of it counts, reading what was emitted too; only the start of the interpreter does not.
The stage is that of the throughput benchmark. One process each, on one core; the live one has the broker at work beside it.
"""

import multiprocessing
import resource
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from streams.config import Settings
from streams.ops.replay.judge import Kind, Tally
from streams.ops.replay.repair import Plan
from streams.ops.replay.verb import Options, Replay
from streams.ops.replay.window import Inputs
from tests.bench.flow import bench, checking
from tests.bench.ground import SUBMITTED, Ground, encoded, preload, some_orders
from tests.bench.throughput import stage_speed


def measure(ground: Ground, *, quick: bool) -> dict[str, Any]:
    """By turns."""
    records, rounds = (60_000, 1) if quick else (120_000, 2)
    preload(ground.bootstrap, SUBMITTED, encoded(some_orders(records, "replay-")))
    live = [stage_speed(ground)]
    replays = [_replayed(ground.settings("replay")) for _ in range(rounds)]  # each output is on its topic once
    live += [stage_speed(ground) for _ in range(rounds - 1)]
    again, memory = [speed for speed, _ in replays], max(peak for _, peak in replays)
    return {
        "what": __doc__,
        "records": records,
        "msgs/s": {"live": live, "replay": again},
        "median": {"live": median(live), "replay": median(again)},
        "ratio": median(again) / median(live),
        "target": 0.8,
        "peak MiB": memory,
    }


def _replayed(settings: Settings) -> tuple[float, float]:
    """Events per second and peak memory (MiB), in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_run, (settings,))


def _run(settings: Settings) -> tuple[float, float]:
    inputs = Inputs(settings, bench, checking)
    with TemporaryDirectory(prefix="towpath-") as folder:
        plan, tally = Plan(Path(folder)), Tally()
        began = time.monotonic()
        for finding in Replay(inputs, inputs.window(), Options(), Path(folder), plan).findings():
            tally.take(finding)
        seconds = time.monotonic() - began
        plan.close()
    count = sum(tally.counts.values())
    if tally.counts[Kind.SAME] != count:
        raise SystemExit(f"a replay of the same code differs: {tally.counts}")
    return count / seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
