"""`make screenshot`: docs/top.svg, the picture of `towpath top` in the README, from a real demo with faults.

The one rule: it shows what was really there at a moment when a stage waited for its provider; nothing in it is made up.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from streams import local
from streams.cli.top import _picture, _view
from streams.config import Settings
from streams.errors import SetupError
from streams.ops.watching import Watch, Workers
from streams.roster import listed
from streams.topology import load
from tests.support.workers import ROOT

_PATIENCE: Final = 300.0  # seconds until there is something to be seen
_MODULE: Final = "topologies.orders"


def main() -> None:
    """Run the demo beside, look until a stage is held, and take the picture."""
    topology = load(_MODULE)
    with tempfile.TemporaryDirectory(prefix="towpath-screenshot-") as home:
        directory = Path(home) / "demo"
        demo = subprocess.Popen(
            [sys.executable, "-m", "streams", "demo", "--faults", "--orders", "6000", "--rate", "150"],
            cwd=ROOT,
            env=os.environ | {"TOWPATH_DIR": home},
            stdout=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + _PATIENCE
            while len(listed(directory, topology.name)) < len(topology.stages):
                _check(demo, deadline)
                time.sleep(0.5)
            bootstrap = str(local.status(directory)["bootstrap"])
            workers = Workers(topology.name, lambda: [entry.url for entry in listed(directory, topology.name)])
            with Watch(topology, workers, Settings(bootstrap=bootstrap, directory=directory), straight=False) as watch:
                while True:
                    time.sleep(2)
                    _check(demo, deadline)
                    rows, note = watch.look()
                    if any(row.why for row in rows) and any(row.cases for row in rows):
                        break
            _picture(ROOT / "docs" / "top.svg", f"towpath top {_MODULE}", _view(topology.name, rows, note))
        finally:
            demo.terminate()
            demo.wait(60)


def _check(demo: subprocess.Popen[bytes], deadline: float) -> None:
    if demo.poll() is not None or time.monotonic() > deadline:
        raise SetupError("the demo has come to nothing worth a picture", fix="run it by itself: towpath demo --faults")


if __name__ == "__main__":
    main()
