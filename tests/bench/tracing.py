"""Traces: one stage process on a full topic without traces, with 1 % of them, with all, and as OpenTelemetry's SDK would do it.

The one rule: all read the same records, by turns. No record brings a header, so each begins a trace; the stage is that of the
benchmark `peers`, and what it exports goes to a process that throws it away.
"""

from statistics import median
from typing import Any, Final

from tests.bench.ground import SUBMITTED, Ground, encoded, preload, some_orders
from tests.bench.processes import Processes, free_port
from tests.bench.throughput import by_turns, ratio, stage_speed

_TARGETS: Final = {"1 %": 0.93, "100 %": 0.35}


def measure(ground: Ground, *, quick: bool) -> dict[str, Any]:
    """By turns."""
    records, rounds = (60_000, 1) if quick else (150_000, 3)
    preload(ground.bootstrap, SUBMITTED, encoded(some_orders(records, "traces-")), (("shop", b"330"),))
    endpoint = f"http://127.0.0.1:{(port := free_port())}"
    traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
    some = traced | {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}
    stock = {"STOCK_ENDPOINT": f"{endpoint}/v1/traces"}
    with Processes(ground.settings("sink").directory) as processes:
        processes.sink(port)
        processes.wait_until_ready()
        ways = {
            "off": lambda: stage_speed(ground),
            "1 %": lambda: stage_speed(ground, more=some),
            "100 %": lambda: stage_speed(ground, more=traced),
            "stock SDK, 100 %": lambda: stage_speed(ground, program="tests.bench.stock", more=stock),
        }
        found = by_turns(ways, rounds)
    return {
        "what": __doc__,
        "records": records,
        "msgs/s": found,
        "median": {name: median(speeds) for name, speeds in found.items()},
        "ratios": {name: ratio(speeds, found["off"]) for name, speeds in found.items() if name != "off"},
        "targets": _TARGETS,
    }
