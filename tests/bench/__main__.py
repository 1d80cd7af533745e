"""`python -m tests.bench [NAME…] [--quick]`: measure, and write the results to docs/bench.

The one rule: every figure stands beside another from the same run, so that it says something on any machine.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from tests.bench import (
    beside,
    codecs,
    features,
    flame,
    ground,
    lanes,
    latency,
    memory,
    postgres,
    reconcile,
    replay,
    report,
    scaling,
    store,
    tracing,
    whole,
)

_ON_KAFKA: Final[dict[str, Callable[..., dict[str, Any]]]] = {
    "peers": beside.measure,
    "latency": latency.measure,
    "flow": whole.measure,
    "features": features.measure,
    "scaling": scaling.measure,
    "memory": memory.measure,
    "flame": flame.measure,
    "lanes": lanes.measure,
    "replay": replay.measure,
    "tracing": tracing.measure,
}
_ALONE: Final[dict[str, Callable[..., dict[str, Any]]]] = {
    "store": store.measure,
    "postgres": postgres.measure,
    "codec": codecs.measure,
    "reconcile": reconcile.measure,
}
_BY_NAME: Final = ("tracing",)  # only when asked for: `features` has it in short


def main() -> None:
    """Run the named benchmarks, or all."""
    every = _ON_KAFKA | _ALONE
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure, and write docs/bench.")
    parser.add_argument(
        "names", metavar="NAME", nargs="*", help=f"one of {', '.join(every)}; default: all but {', '.join(_BY_NAME)}"
    )
    parser.add_argument("--quick", action="store_true", help="see whether it works; prints, and writes nothing")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - every.keys():
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    failed = []
    for name in arguments.names or [name for name in every if name not in _BY_NAME]:
        try:
            _run(name, quick=arguments.quick)
        except (Exception, SystemExit) as error:  # the others are worth having all the same
            failed.append(name)
            sys.stderr.write(f"{name} has failed: {type(error).__name__}: {error}\n")
    sys.exit(1 if failed else 0)


def _run(name: str, *, quick: bool) -> None:
    machine, began = report.machine(), time.monotonic()
    sys.stderr.write(f"{name} …\n")
    if name in _ALONE:
        found = _ALONE[name](None, quick=quick)
    else:
        with ground.ground() as kafka:
            found = _ON_KAFKA[name](kafka, quick=quick)
    took = {"load after": round(os.getloadavg()[0], 1), "took minutes": round((time.monotonic() - began) / 60, 1)}
    result = {name: {"quick": quick, "machine": machine, **took, **found}}
    if not quick:
        report.write(result)
    sys.stdout.write(report.page(result) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
