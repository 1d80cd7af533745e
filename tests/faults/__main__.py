"""`python -m tests.faults [NAME…]`: the order flow on three brokers, one fault after the other; writes docs/faults.md.

The one rule: all of them write the page, some print what it would say.
"""

import argparse
import os
import signal
import sys
from typing import Final

import pytest

from tests.faults.arena import Arena, Round
from tests.faults.kinds import FAULTS
from tests.faults.page import PAGE, Result, page

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
                break
    return results


if __name__ == "__main__":
    sys.exit(main())
