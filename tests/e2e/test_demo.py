import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from tests.support.workers import wait_for

ROOT = Path(__file__).parents[2]


def start(directory: Path, *options: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TOWPATH_")}
    return subprocess.Popen(
        [sys.executable, "-m", "streams", "demo", *options],
        cwd=ROOT,
        env=environment | {"TOWPATH_DIR": str(directory)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def left_behind(directory: Path) -> list[list[str]]:
    """The processes that were started for this directory and live: each has it in its environment or command line."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(directory) in process.environ().get("TOWPATH_DIR", "") or str(directory) in " ".join(process.cmdline()):
                found.append(process.cmdline())
        except psutil.Error:
            continue
    return found


def down(directory: Path) -> None:
    """`towpath down`."""
    done = subprocess.run(
        [sys.executable, "-m", "streams", "down"],
        cwd=ROOT,
        env=os.environ | {"TOWPATH_DIR": str(directory / "demo")},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0


def test_the_demo_brings_every_order_to_its_end_twice_and_leaves_nothing_running(tmp_path: Path) -> None:
    for _ in range(2):
        with start(tmp_path, "--orders", "300", "--rate", "150") as demo:
            out, err = demo.communicate(timeout=180)
        assert demo.returncode == 0, err
        ended = {word: int(number) for word, number in re.findall(r"^  (\w+) +(\d+)", out, re.MULTILINE)}
        assert set(ended) == {"confirmed", "rejected", "declined", "expired", "cancelled"}
        assert sum(ended.values()) == 300
        assert all(ended.values())
        books = re.search(r"^money: (\d+) charges less (\d+) refunds, .* says the same", out, re.MULTILINE)
        assert books, out
        assert int(books[1]) - int(books[2]) == ended["confirmed"]
        assert 0 < int(books[2]) < ended["expired"] + ended["cancelled"]  # some were cancelled before they were paid for
        assert re.search(rf"lines of the {ended['confirmed']} confirmed orders, .* none is set aside$", out, re.MULTILINE), out
        assert re.search(r"captured: p50 [\d,]+ ms, p99 [\d,]+ ms", out)
        assert "notifications sent twice: 0" in out
        assert left_behind(tmp_path) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_stop_whatever_the_demo_has_started(tmp_path: Path, number: signal.Signals, code: int) -> None:
    log = tmp_path / "demo" / "send.log"
    with start(tmp_path, "--orders", "5000", "--rate", "50") as demo:
        deadline = time.monotonic() + 120
        while not log.exists() and time.monotonic() < deadline and demo.poll() is None:
            time.sleep(0.1)
        demo.send_signal(number)
        _, err = demo.communicate(timeout=60)
    assert log.exists(), err
    assert demo.returncode == code, err
    assert "Traceback" not in err
    assert left_behind(tmp_path) == []


def test_a_demo_with_faults_ends_as_foreseen_with_every_order_accounted_for(tmp_path: Path) -> None:
    try:
        with start(tmp_path, "--orders", "300", "--rate", "150", "--faults", "--traces") as demo:
            out, err = demo.communicate(timeout=240)
        assert demo.returncode == 0, err
        link = r"one order's trace \((\d+), confirmed\): (http://127\.0\.0\.1:\d+)/zipkin/traces/([0-9a-f]{32})$"
        page = re.search(link, out, re.MULTILINE)
        assert page, out
        with urllib.request.urlopen(f"{page[2]}/api/v2/trace/{page[3]}", timeout=10) as reply:  # noqa: S310  # the demo's own
            spans = json.load(reply)
        assert any(span["tags"].get("messaging.kafka.message.key") == page[1] for span in spans)
        stages = {span["localEndpoint"]["serviceName"] for span in spans}
        assert stages >= {f"orders.{name}" for name in ("send", "intake", "inventory", "payment", "notification", "delivery")}
    finally:
        down(tmp_path)  # Zipkin stays to be looked at
    rows = re.findall(r"^  (.+?) +(\d+) +(\d+)$", out, re.MULTILINE)
    assert len(rows) == 5, out
    assert all(foreseen == happened != "0" for _, foreseen, happened in rows), out
    assert re.search(r"^payment held for 1\d\.\d s", out, re.MULTILINE)
    assert re.search(r"^cases: 15 opened, 5 redriven and resolved, 10 dismissed, 0 open$", out, re.MULTILINE), out
    ends = re.search(r"^orders: 300 submitted = (.*)$", out, re.MULTILINE)
    assert ends, out
    assert sum(map(int, re.findall(r"\d+", ends[1]))) == 300
    assert "notifications sent twice: 0" in out
    assert re.search(r"^reconcile: .* 0 differences;", out, re.MULTILINE), out
    assert left_behind(tmp_path) == []


def test_the_agents_of_a_demo_that_is_killed_end_by_themselves(tmp_path: Path) -> None:
    log = tmp_path / "demo" / "send.log"
    with start(tmp_path, "--orders", "5000", "--rate", "50") as demo:
        wait_for(lambda: log.exists() or demo.poll() is not None, 120, "nothing is sent")
        demo.kill()
        demo.communicate(timeout=60)
    try:
        assert log.exists()
        wait_for(lambda: not any("topologies.orders" in line for line in left_behind(tmp_path)), 20, "agents are there")
    finally:
        down(tmp_path)  # Kafka is a service of its own, which the next demo would stop
    assert left_behind(tmp_path) == []
