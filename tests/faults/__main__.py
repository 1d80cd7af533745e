"""`python -m tests.faults [NAME…]`: the order flow on three brokers, one fault after the other; writes docs/faults.md.

The one rule: what is found is written down at once, whatever comes after it.
"""

import argparse
import json
import shutil
import signal
import sys
from pathlib import Path

import pytest

from streams.history import Anomaly
from tests.faults.arena import Arena, Round
from tests.faults.kinds import FAULTS
from tests.faults.page import Result, result, write
from tests.faults.shop import Stuck
from tests.support.workers import ROOT


def main() -> int:
    """Run the named faults, or all. 0: nothing lost, doubled or out of order in any, and the flow recovered from each."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Let faults happen to the order flow.")
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"one of {', '.join(FAULTS)}; default: all")
    names = parser.parse_args().names or list(FAULTS)
    if unknown := set(names) - FAULTS.keys():
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # tidily, with all that was started
    results: list[Result] = []
    while len(results) < len(names):
        _run(names, results)
    return 1 if any(each.bad for each in results) else 0


def _run(names: list[str], results: list[Result]) -> None:
    """On one cluster, until a fault leaves it in a state that the next one should not find."""
    with Arena() as arena:
        for name in names[len(results) :]:
            sys.stderr.write(f"{len(results) + 1} of {len(names)}: {name} …\n")
            try:
                played = arena.play(FAULTS[name])
                sys.stderr.write(played.failure)
                found = result(name, played)
            except pytest.skip.Exception as skip:
                found = result(name, Round(), str(skip))
            except Stuck as stuck:
                sys.stderr.write(f"  {stuck}: that says nothing of the flow; once more, on a new cluster\n")
                return
            sys.stderr.write(f"  {found.line()}\n")
            results.append(found)
            write([found])
            if found.bad:
                _keep(arena, name)
                return


def _keep(arena: Arena, name: str) -> None:
    """Put the logs where they may be read."""
    home = ROOT / ".towpath" / "faults" / name
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    (home / "notes").write_text("\n".join(arena.round.notes))
    _tell(home / "anomalies", arena.round.anomalies)
    if arena.round.anomalies:  # is it so, or have the readers missed something? While none dies within a transaction
        _tell(home / "anomalies-read-anew", arena.judged_anew())
    for worker in arena.workers:
        (home / f"{worker.name}.health").write_text(json.dumps(worker.page("/health")[1], indent=2))
        worker.process.send_signal(signal.SIGABRT)  # where each of its threads is goes to its log
        worker.ended(20)
        (home / f"{worker.name}.log").write_text(worker.log)
    for node in arena.cluster.nodes:
        shutil.copy(node.log, home / f"node{node.number}.log")
    sys.stderr.write(f"  logs are in {home}\n")


def _tell(file: Path, anomalies: list[Anomaly]) -> None:
    file.write_text("".join(f"{each.kind}\t{each.where}\t{each.text}\n" for each in anomalies))


if __name__ == "__main__":
    sys.exit(main())
