"""What `towpath top` makes of what it sees; that it sees it is shown on a real Kafka."""

import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from streams.cli.top import _picture, _span, _view, address_of
from streams.ops.figures import Behind, Figures, Row, Window
from streams.ops.watching import Workers
from streams.roster import Entry, enlisted, listed
from streams.standing import Standing
from tests.support.measured import eventful, page, standing
from tests.support.moves import World, start
from tests.support.workers import free_port

A, B = ("http://a", "play"), ("http://b", "play")


def test_rates_are_of_the_window_and_a_worker_that_began_anew_or_late_does_not_spoil_them() -> None:
    window = Window()
    window.add(0.0, {A: Figures(consumed=1000)})
    window.add(5.0, {A: Figures(consumed=1500), B: Figures(consumed=90_000)})
    assert window.rows(["play"], {})[0].consumed == 100, "what B did before it was seen is not of now"
    window.add(10.0, {A: Figures(consumed=20), B: Figures(consumed=90_500)})
    assert window.rows(["play"], {})[0].consumed == 2 + 100, "A was started again"
    for second in range(12, 40, 2):
        window.add(second, {A: Figures(consumed=20), B: Figures(consumed=90_500)})
    assert window.rows(["play"], {})[0].consumed == 0, "it is long ago"


def test_the_quantile_is_of_the_window_as_prometheus_has_it() -> None:
    window = Window()
    window.add(0.0, {A: Figures(buckets={0.1: 0, 1.0: 50, math.inf: 50})})
    assert window.rows(["play"], {})[0].p99 is None, "one look is none"
    window.add(2.0, {A: Figures(buckets={0.1: 90, 1.0: 150, math.inf: 150})})
    assert window.rows(["play"], {})[0].p99 == pytest.approx(0.1 + 0.9 * (99 - 90) / 10)
    window.add(4.0, {A: Figures(buckets={0.1: 90, 1.0: 150, math.inf: 250})})
    assert window.rows(["play"], {})[0].p99 == 1.0, "beyond the last bound nothing is known"


def test_what_nobody_was_asked_is_unknown_and_not_0() -> None:
    window = Window()
    window.add(0.0, {})
    window.add(1.0, {})
    row = window.rows(["play"], {})[0]
    assert (row.lag, row.oldest, row.members, row.cases, row.p99) == (None,) * 5
    assert window.rows(["play"], {"play": Behind(7, 1.5, 2, 3)})[0].lag == 7


class Page(BaseHTTPRequestHandler):
    """A worker's pages: `health` and `metrics` are what they say."""

    health: dict[str, Any]
    metrics: str

    def do_GET(self) -> None:
        page = (json.dumps(self.health) if self.path == "/health" else self.metrics).encode()
        self.send_response(503 if self.path == "/health" and not self.health["healthy"] else 200)
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@contextmanager
def served(stage: Standing) -> Iterator[str]:
    health = {"healthy": not stage.stuck, "stages": [stage.health()]}
    handler = type("Served", (Page,), {"health": health, "metrics": page(stage)})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join(10)


def test_a_workers_pages_say_what_its_stages_do_and_why_one_does_not() -> None:
    at = World()
    with start(at=at) as flow:
        worker = flow.workers[0]
        eventful(flow, worker, at)
        with served(standing(flow, worker)) as url:
            silent = f"http://127.0.0.1:{free_port()}"
            workers = Workers("moves", lambda: [url, silent])
            seen = workers.look()
            assert Workers("others", lambda: [url]).look() == {}, "another topology's"
    figures = seen[url, "play"]
    assert (figures.consumed, figures.dead, figures.parked) == (4, 1, 2)
    assert figures.buckets[math.inf] == 4
    assert figures.why.startswith("it waits for world")
    assert list(workers.silent) == [silent]


def test_a_stage_that_cannot_go_on_says_so_though_its_page_is_503() -> None:
    with start() as flow:
        flow.run()
        stage = standing(flow, flow.workers[0])
        stage.stuck = "a handler has been at it for 99 s"
        with served(stage) as url:
            assert Workers("moves", lambda: [url]).look()[url, "play"].why == stage.stuck


def test_workers_of_this_machine_are_found_while_they_live(tmp_path: Path) -> None:
    with enlisted(tmp_path, "moves", ["play"], "http://127.0.0.1:1"):
        assert [entry.url for entry in listed(tmp_path, "moves")] == ["http://127.0.0.1:1"]
        assert listed(tmp_path, "others") == []
        dead = Entry("moves", ("play",), "http://127.0.0.1:2", psutil.Process().pid, 1.0)  # this pid was another's then
        (tmp_path / "run" / "dead.json").write_bytes(msgspec.json.encode(dead))
        (tmp_path / "run" / "none.json").write_text("{")
        assert len(listed(tmp_path, "moves")) == 1
        assert not (tmp_path / "run" / "dead.json").exists()
    assert listed(tmp_path, "moves") == []


def test_an_address_needs_no_scheme_and_no_page() -> None:
    assert address_of("127.0.0.1:8080") == "http://127.0.0.1:8080"
    assert address_of("https://worker/metrics") == "https://worker"
    for wrong in ("file:///etc/passwd", "http://", "http://x:99999", "ftp://x"):
        with pytest.raises(Exception, match="no address"):
            address_of(wrong)


def test_a_picture_shows_what_the_terminal_shows(tmp_path: Path) -> None:
    row = Row("payment", 120.4, 3.2, 15.0, 4200, 75.0, 0, 17, 90, 3, 5, 0.0421, "it waits for psp: 503")
    _picture(tmp_path / "top.svg", "towpath top", _view("orders", [row], "a note"))
    text = (tmp_path / "top.svg").read_text("utf-8")
    assert text.startswith("<svg")
    for shown in ("payment", "120", "3.2", "42&#160;ms", "4,200", "75.0&#160;s", "17", "psp", "note"):
        assert shown in text, shown
    assert "@font-face" not in text, "who looks at it asks nobody's server"


def test_spans_are_short() -> None:
    assert [_span(seconds) for seconds in (0.0123, 3.44, 300, 90_000)] == ["12 ms", "3.4 s", "5 min", "25 h"]
