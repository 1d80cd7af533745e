"""`python -m tests.faults [NAME…]`: the order flow on three brokers, one fault after the other; writes docs/faults.md.

The one rule: all of them write the page, some print what it would say.
"""

import argparse
import json
import os
import shutil
import signal
import sys
from typing import Final

import pytest

from tests.faults.arena import Arena, Round
from tests.faults.kinds import FAULTS
from tests.faults.page import PAGE, Result, page
from tests.support.workers import ROOT

_FAILED: Final = 1


def main() -> int:
    """Run the named faults, or all. 0: nothing lost, doubled or out of order in any."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Let faults happen to the order flow.")
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"one of {', '.join(FAULTS)}; default: all")
    names = parser.parse_args().names or list(FAULTS)
    if unknown := set(names) - FAULTS.keys():
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # tidily, with all that was started
    load = os.getloadavg()[0]
    results: list[Result] = []
    while len(results) < len(names):
        results += _run(names[len(results) :])
    text = page(results, load)
    sys.stdout.write(text)
    if len(names) == len(FAULTS):
        PAGE.write_text(text, "utf-8")
    return _FAILED if any(result.bad for result in results) else 0


def _run(names: list[str]) -> list[Result]:
    """On one cluster, until a fault leaves it in a state that the next one should not find."""
    results: list[Result] = []
    with Arena() as arena:
        for number, name in enumerate(names, 1):
            sys.stderr.write(f"{number} of {len(names)}: {name} …\n")
            try:
                result = Result(name, arena.play(FAULTS[name]))
            except pytest.skip.Exception as skip:
                result = Result(name, Round(), str(skip))
            sys.stderr.write(f"  {result.line()}\n")
            results.append(result)
            if result.bad:
                sys.stderr.write(result.round.failure)
                _keep(arena, name)
                break
    return results


def _keep(arena: Arena, name: str) -> None:
    """Put the logs where they may be read."""
    home = ROOT / ".towpath" / "faults" / name
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    for worker in arena.workers:
        (home / f"{worker.name}.health").write_text(json.dumps(worker.page("/health")[1], indent=2))
        worker.process.send_signal(signal.SIGABRT)  # where each of its threads is goes to its log
        worker.ended(20)
        (home / f"{worker.name}.log").write_text(worker.log)
    for node in arena.cluster.nodes:
        shutil.copy(node.log, home / f"node{node.number}.log")
    (home / "anomalies").write_text("\n".join(f"{each.kind}\t{each.where}\t{each.text}" for each in arena.round.anomalies))
    (home / "notes").write_text("\n".join(arena.round.notes))
    sys.stderr.write(f"  logs are in {home}\n")


if __name__ == "__main__":
    sys.exit(main())
