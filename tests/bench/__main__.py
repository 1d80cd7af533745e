"""`python -m tests.bench [NAME…] [--quick]`: measure, and write the results to docs/bench.

The one rule: every figure stands beside another from the same run, so that it says something on any machine.
"""

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any, Final

from tests.bench import (
    codecs,
    ground,
    lanes,
    latency,
    postgres,
    receipts,
    reconcile,
    replay,
    report,
    store,
    throughput,
    tracing,
)

_ON_KAFKA: Final[dict[str, Callable[..., dict[str, Any]]]] = {
    "stage": throughput.measure,
    "latency": latency.measure,
    "lanes": lanes.measure,
    "receipts": receipts.measure,
    "replay": replay.measure,
    "tracing": tracing.measure,
}
_ALONE: Final[dict[str, Callable[..., dict[str, Any]]]] = {
    "store": store.measure,
    "postgres": postgres.measure,
    "codec": codecs.measure,
    "reconcile": reconcile.measure,
}


def main() -> None:
    """Run the named benchmarks, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure, and write docs/bench.")
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"one of {', '.join(_ON_KAFKA | _ALONE)}; default: all")
    parser.add_argument("--quick", action="store_true", help="see whether it works; prints, and writes nothing")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - _ON_KAFKA.keys() - _ALONE.keys():
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    for name in arguments.names or _ON_KAFKA | _ALONE:
        machine = report.machine()
        sys.stderr.write(f"{name} …\n")
        if name in _ALONE:
            found = _ALONE[name](None, quick=arguments.quick)
        else:
            with ground.ground() as kafka:
                found = _ON_KAFKA[name](kafka, quick=arguments.quick)
        result = {name: {"quick": arguments.quick, "machine": machine, "load after": round(os.getloadavg()[0], 1), **found}}
        if not arguments.quick:
            report.write(result)
        sys.stdout.write(report.page(result) + "\n")


if __name__ == "__main__":
    main()
