"""`towpath lag` on a real Kafka: stages with and without workers, and a transaction that hangs."""

import json
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from streams.local import LocalKafka
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
