"""Where a stage's time goes: a flame graph of its process at work on a full topic, by py-spy: docs/bench/stage.svg.

The one rule: it is the worker as users run it, and nothing in it knows that it is watched.
"""

import re
import subprocess
import time
from pathlib import Path
from typing import Any, Final

from streams import names
from tests.bench.flow import bench, checking
from tests.bench.ground import SUBMITTED, Ground, encoded, preload, some_orders
from tests.bench.processes import PEERS, Processes
from tests.bench.report import DOCS

_FRAME: Final = re.compile(
    r"<title>(.+?) \(((?:streams|topologies)/[\w./-]+\.py)(?::\d+)?\) \([\d,]+ samples, ([\d.]+)%\)</title>"
)
_TITLE: Final = re.compile(r'(<text id="title"[^>]*>)[^<]*')


def measure(ground: Ground, *, quick: bool) -> dict[str, Any]:
    """Records so many seconds of the stage at work."""
    seconds = 3 if quick else 15
    preload(ground.bootstrap, SUBMITTED, encoded(some_orders(60_000 if quick else 400_000, "flame-")))
    picture = ground.directory / "stage.svg"
    group = names.group(bench.name, checking.name)
    settings = ground.settings("flame")
    with Processes(settings.directory) as processes:
        processes.worker(settings, "tests.bench.flow", checking.name)
        deadline = time.monotonic() + 60
        while not ground.committed(group, SUBMITTED) and time.monotonic() < deadline:
            processes.check()
            time.sleep(0.05)
        missing = _record(processes.pids[0], seconds, picture)
    if missing:
        return {"what": __doc__, "missing": missing}
    page = _TITLE.sub(r"\1A stage at work", picture.read_text("utf-8"))  # else it names folders of this machine
    if not quick:
        (DOCS / picture.name).write_text(page, "utf-8")
    return {"what": __doc__, "seconds": seconds, "shares": _shares(page)}


def _record(pid: int, seconds: int, picture: Path) -> str:
    """Why there is no picture, or nothing."""
    command = [str(PEERS / "py-spy"), "record", "--rate", "250", "--duration", str(seconds), "--function"]
    try:
        done = subprocess.run(
            [*command, "--format", "flamegraph", "--output", str(picture), "--pid", str(pid)],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        return f"py-spy is not installed in .peers: {error.strerror}"
    return "" if picture.exists() else f"py-spy may not look: {done.stderr.strip()[-300:]}"


def _shares(page: str) -> dict[str, float]:
    """Percent of the samples in which a function of ours was on the stack, the most first."""
    shares: dict[str, float] = {}
    for function, file, share in _FRAME.findall(page):
        name = f"{file}: {function}"
        shares[name] = max(shares.get(name, 0.0), float(share))
    return dict(sorted(shares.items(), key=lambda one: -one[1])[:40])
