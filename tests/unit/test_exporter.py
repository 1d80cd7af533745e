"""What the lag exporter and a reconciliation say, from what they have seen; who sees it is a real Kafka's test."""

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streams.catalogue import EXPORTER, RECONCILE
from streams.cli.lag import address
from streams.config import Settings
from streams.dead import State
from streams.errors import SetupError
from streams.ops.brokers import Brokers, Replication
from streams.ops.exporter import Exporter, Stalls, of_brokers, of_cases, of_lags, serve
from streams.ops.lag import Lag
from streams.ops.reconcile.findings import Result
from streams.ops.reconcile.metrics import samples, write
from streams.telemetry import exposition, read
from tests.support.moves import Asked, make, start
from tests.support.workers import wait_for

BEHIND = Lag("play", "moves.asked", 1, None, 30, 20, 61.5, 4, 0)
EVEN = Lag("play", "moves.asked", 0, 7, 7, 0, 0.0, 0, 0)


def shown(found: Any) -> dict[tuple[str, ...], float]:
    text = exposition(found).decode()
    return {(name, *(value for _, value in sorted(labels.items()))): value for name, labels, value in read(text)}


def test_a_dead_stage_and_an_open_transaction_are_seen_and_every_metric_of_the_page_is_there() -> None:
    with start() as flow:
        flow.produce(Asked("k", 0, ("reject",)))
        flow.run()
        cases, topology = flow.cases(), flow.topology
    died = cases[0].last_failed_at
    cases.append(msgspec.structs.replace(cases[0], case_id="other", state=State.RESOLVED))
    everything = [
        *of_lags("moves", [EVEN, BEHIND], Stalls(), 0.0),
        *of_cases(topology, cases, died + timedelta(hours=5)),
        *of_brokers("moves", Brokers(3, (Replication("moves.asked", 1, 2),))),
        ("towpath_lag_look_duration_seconds", ("moves",), 0.1),
        ("towpath_lag_up", ("moves",), 1),
    ]
    assert {name for name, *_ in everything} == {family.name for family in EXPORTER}
    found = shown(everything)
    assert found["towpath_group_lag_records", "1", "play", "moves.asked", "moves"] == 20
    assert found["towpath_group_lag_seconds", "1", "play", "moves.asked", "moves"] == 61.5
    assert found["towpath_group_committed_offset", "0", "play", "moves.asked", "moves"] == 7
    assert ("towpath_group_committed_offset", "1", "play", "moves.asked", "moves") not in found, "it has never committed"
    assert found["towpath_group_members", "play", "moves"] == 0
    assert found["towpath_cases_open", "play", "moves"] == 1
    assert found["towpath_cases_oldest_seconds", "play", "moves"] == 5 * 3600
    assert found["towpath_partitions_offline", "moves.asked", "moves"] == 1


def test_a_transaction_hangs_while_the_stable_offset_stands_still_with_something_behind_it() -> None:
    stalls, place = Stalls(), ("t", 0)
    assert stalls.seconds(place, 10, 0, 0.0) == 0, "nothing is open"
    assert stalls.seconds(place, 10, 3, 100.0) == 0, "seen for the first time"
    assert stalls.seconds(place, 10, 900, 160.0) == 60
    assert stalls.seconds(place, 40, 5, 170.0) == 0, "it went on: another transaction is open"
    assert stalls.seconds(place, 40, 5, 180.0) == 10
    assert stalls.seconds(place, 45, 0, 190.0) == 0


def test_no_case_is_open_is_a_figure_too() -> None:
    assert list(of_cases(make(), [], datetime.now(UTC))) == [
        ("towpath_cases_open", ("moves", "play"), 0),
        ("towpath_cases_oldest_seconds", ("moves", "play"), 0.0),
    ]


def test_a_reconciliation_leaves_its_figures_in_a_file_that_the_exporter_serves(tmp_path: Path) -> None:
    result = Result("moves", 0, counts={"a": 5, "b": 6}, unknown={"not kept": 2}, receipts=4, unlisted=1)
    result.add("lost", "play", ("x",), ours=1, theirs=0, repair="")
    result.add("gap", "play", ("y",), ours=1, theirs=0, repair="")
    assert {name for name, *_ in samples(result, 1.0, 2.0)} == {family.name for family in RECONCILE}
    file = tmp_path / "moves.prom"
    write(file, result, took=1.5, now=1_700_000_000.0)
    assert [path.name for path in tmp_path.iterdir()] == ["moves.prom"]
    with file.open("a") as more:
        more.write("towpath_lag_up 1\nsomebody_else 1\n")
    with served(include=file) as url:
        found = page(url)
    assert 'towpath_reconcile_differences{kind="all",topology="moves"} 3.0' in found
    assert 'towpath_reconcile_differences{kind="lost",topology="moves"} 1.0' in found
    assert 'towpath_reconcile_last_run_timestamp_seconds{topology="moves"} 1.7e+09' in found
    assert "somebody_else" not in found
    assert [line for line in found.splitlines() if line.startswith("towpath_lag_up")] == [
        'towpath_lag_up{topology="moves"} 0.0'
    ]


@pytest.mark.parametrize("text", ["", "{{{", "towpath_reconcile_events{topology=", "\x00\xff"])
def test_a_file_that_is_none_takes_nothing_else_away(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.prom"
    file.write_text(text, "utf-8")
    with served(include=file) as url:
        assert 'towpath_lag_up{topology="moves"} 0.0' in page(url)


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cannot write"):
        write(tmp_path / "no" / "such.prom", Result("moves", 0), 0.0, 0.0)


def test_an_address_is_host_and_port() -> None:
    assert address("127.0.0.1:0") == ("127.0.0.1", 0)
    assert address("[::1]:9187") == ("::1", 9187)
    for wrong in ("9187", "host:", "host:x", "host:65536"):
        with pytest.raises(Exception, match="no HOST:PORT"):
            address(wrong)


class Cluster:
    """In the place of a real one: it answers until it is told not to."""

    admin = None
    cases: Mapping[str, Any] = {}
    away = threading.Event()

    def __init__(self, *_: object) -> None:
        self.read()

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def look(self) -> list[Lag]:
        self.read()
        return [BEHIND]

    def read(self) -> None:
        if self.away.is_set():
            raise SetupError("no Kafka answers")


def test_while_the_cluster_does_not_answer_no_old_figure_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.ops.exporter.Looks", Cluster)
    monkeypatch.setattr("streams.ops.exporter.Book", Cluster)
    monkeypatch.setattr("streams.ops.exporter.look", lambda *_: Brokers(1, ()))
    Cluster.away.clear()
    with Exporter(Settings(), make(), every=0.01) as exporter:
        wait_for(lambda: b"towpath_group_lag_records{" in exporter.page(), 10, "it does not look")
        Cluster.away.set()
        wait_for(lambda: b"towpath_group_lag_records{" not in exporter.page(), 10, "old figures are served")
        assert b'towpath_lag_up{topology="moves"} 0.0' in exporter.page()
        Cluster.away.clear()
        wait_for(lambda: b'towpath_lag_up{topology="moves"} 1.0' in exporter.page(), 10, "it does not look again")


@contextmanager
def served(include: Path | None = None) -> Iterator[str]:
    """An exporter that has not looked at a cluster yet."""
    with serve(Exporter(Settings(), make(), include=include), "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join(10)


def page(url: str) -> str:
    with pytest.raises(urllib.error.HTTPError) as wrong:
        urllib.request.urlopen(f"{url}/", timeout=5)  # noqa: S310  # the server of this test
    assert wrong.value.code == 404
    wrong.value.close()
    with urllib.request.urlopen(f"{url}/metrics", timeout=5) as reply:  # noqa: S310  # as above
        assert reply.headers["Content-Type"].startswith("application/openmetrics-text")
        text: str = reply.read().decode()
    return text
