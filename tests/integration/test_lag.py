"""`towpath lag` on a real Kafka: stages with and without workers, and a transaction that hangs."""

import json
import re
import signal
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from streams.local import LocalKafka
from streams.telemetry import read
from tests.support.ward import MODULE, Ward
from tests.support.workers import wait_for


def lags(ward: Ward) -> dict[str, list[dict[str, Any]]]:
    """By stage, its partitions."""
    done = ward.towpath("lag", MODULE)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[dict[str, Any]]] = {}
    for line in done.stdout.splitlines():
        one = json.loads(line)
        found.setdefault(one["stage"], []).append(one)
    return found


def test_a_stage_without_a_worker_is_behind_and_a_hung_transaction_is_seen(tmp_path: Path, kafka: LocalKafka) -> None:
    with Ward(tmp_path, kafka.bootstrap) as ward:
        ward.worker("keeper")
        ward.send(*((f"k{number}", number) for number in range(20)))
        wait_for(lambda: len(ward.items("kept")) == 20, 30, "the keeper is not through", ward.logs)
        found = lags(ward)
        assert {(one["records"], one["seconds"], one["members"]) for one in found["keeper"]} == {(0, 0.0, 1)}
        assert sum(one["records"] for one in found["holder"]) == 20
        assert {(one["at"], one["members"]) for one in found["holder"]} == {(None, 0)}
        assert min(one["seconds"] for one in found["holder"]) > 0
        assert {one["undecided"] for one in found["keeper"]} == {0}

        hung = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": f"{ward.name}.hung", "log_level": 0})
        hung.init_transactions(30)
        hung.begin_transaction()
        for partition in (0, 1):
            hung.produce(f"{ward.name}.sent", b"open", b"k", partition)
        assert hung.flush(30) == 0
        ward.send(("k0", 1))
        found = lags(ward)
        assert sum(one["undecided"] for one in found["keeper"]) == 3, "what is open, and what lies behind it"
        assert {one["records"] for one in found["keeper"]} == {0}, "nobody could read it yet"
        hung.commit_transaction(30)
        through = "the keeper has read all; what follows are a transaction's markers"
        wait_for(lambda: {one["records"] for one in lags(ward)["keeper"]} == {0}, 60, through, ward.logs)
        assert sum(one["end"] - (one["at"] or 0) for one in lags(ward)["keeper"]) > 0, "this test shows nothing"


@contextmanager
def exporting(ward: Ward) -> Iterator[str]:
    """The exporter as a process; at the end SIGTERM ends it with 0."""
    process = ward.operator("lag", MODULE, "--serve", "127.0.0.1:0", "--every", "1")
    try:
        assert process.stderr is not None
        said = re.search(r"http://\S+/metrics", process.stderr.readline())
        assert said is not None
        yield said[0]
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
        assert (process.returncode, "Traceback" in err) == (0, False), err
    finally:
        process.kill()
        process.communicate()


def figures(url: str) -> dict[tuple[str, ...], float]:
    """The sum over partitions by name and stage, or by name and topic."""
    with urllib.request.urlopen(url, timeout=10) as reply:  # noqa: S310  # the exporter of this test
        samples = read(reply.read().decode())
    found: dict[tuple[str, ...], float] = {}
    for name, labels, value in samples:
        key = (name, labels.get("stage", labels.get("topic", "")))
        found[key] = found.get(key, 0) + value
    return found


def test_the_exporter_sees_a_lag_grow_that_no_living_worker_could_tell_of_and_a_transaction_that_hangs(
    tmp_path: Path, kafka: LocalKafka
) -> None:
    with Ward(tmp_path, kafka.bootstrap) as ward:
        keeper = ward.worker("keeper")
        ward.send(*((f"k{number}", number) for number in range(10)))
        wait_for(lambda: len(ward.items("kept")) == 10, 30, "the keeper is not through", ward.logs)
        with exporting(ward) as url:
            wait_for(lambda: figures(url).get(("towpath_lag_up", "")) == 1, 30, "it does not see the cluster")
            alive = figures(url)
            assert alive["towpath_group_members", "keeper"] == 1
            assert alive["towpath_group_lag_records", "keeper"] == 0
            assert alive["towpath_brokers", ""] == 1
            assert alive["towpath_cases_open", "keeper"] == 0
            keeper.kill()
            behind = 0.0
            for _ in range(2):  # it grows
                ward.send(*((f"k{number}", number) for number in range(20)))
                grown = behind
                wait_for(lambda: figures(url)["towpath_group_lag_records", "keeper"] >= grown + 20, 30, "no lag is seen")  # noqa: B023
                behind = figures(url)["towpath_group_lag_records", "keeper"]
            assert figures(url)["towpath_group_lag_seconds", "keeper"] > 0
            wait_for(lambda: figures(url)["towpath_group_members", "keeper"] == 0, 60, "the dead is still counted")

            hung = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": f"{ward.name}.hung", "log_level": 0})
            hung.init_transactions(30)
            hung.begin_transaction()
            hung.produce(f"{ward.name}.sent", b"open", b"k", 0)
            assert hung.flush(30) == 0
            sent = f"{ward.name}.sent"
            wait_for(lambda: figures(url)["towpath_lso_gap_records", sent] >= 1, 30, "the open transaction is not seen")
            wait_for(lambda: figures(url)["towpath_lso_stalled_seconds", sent] >= 2, 30, "it is not seen to hang")
            hung.abort_transaction(30)
            wait_for(lambda: figures(url)["towpath_lso_stalled_seconds", sent] == 0, 30, "it is still said to hang")
