"""`towpath top` and a worker's metrics on a real Kafka: by workers' pages and straight from the topics."""

import json
import logging
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from streams.local import LocalKafka
from streams.telemetry import read
from tests.support.ward import MODULE, Ward
from tests.support.workers import Worker, wait_for


def watched(ward: Ward, done: Callable[[dict[str, dict[str, Any]]], bool], *options: str) -> dict[str, dict[str, Any]]:
    """Send, and look at the stages, until it is so."""
    process = ward.operator("top", MODULE, "--every", "0.5", *options)
    try:
        deadline = time.monotonic() + 60
        while True:
            ward.send(*((f"k{number}", number) for number in range(20)))
            assert process.stdout is not None
            lines = [json.loads(process.stdout.readline() or "{}") for _ in range(2)]
            rows = {line["stage"]: line for line in lines if line}
            if rows and done(rows):
                return rows
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline, rows
    finally:
        process.kill()
        process.communicate()


def metrics(worker: Worker) -> dict[tuple[str, ...], float]:
    """By name and, of what is of one of three clients, which."""
    with urllib.request.urlopen(f"http://127.0.0.1:{worker.port}/metrics", timeout=5) as reply:
        assert reply.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        return {(name, labels.get("client", "")): value for name, labels, value in read(reply.read().decode())}


def test_stages_are_watched_by_their_workers_and_by_the_topics_alone(tmp_path: Path, kafka: LocalKafka) -> None:
    with Ward(tmp_path, kafka.bootstrap) as ward:
        ward.environment["TOWPATH_KAFKA"] = "statistics.interval.ms=300"
        ward.break_down()  # what comes to the keeper dies
        worker = ward.worker("keeper")

        rows = watched(ward, lambda rows: rows["keeper"]["consumed"] > 0 and rows["keeper"]["cases"] > 0)
        keeper, holder = rows["keeper"], rows["holder"]
        assert keeper["transactions"] > 0
        assert keeper["p99"] > 0
        assert keeper["members"] == 1
        assert keeper["dead"] > 0
        assert (holder["members"], holder["p99"], holder["consumed"]) == (0, None, 0), "no worker of it lives"
        assert holder["lag"] > 0

        wait_for(lambda: metrics(worker).get(("towpath_kafka_brokers_up", "follower")) == 1, 30, "no statistics come")
        found = metrics(worker)
        assert {client for name, client in found if name == "towpath_kafka_rtt_seconds"} == {"member", "follower", "producer"}
        rtt = ("towpath_kafka_rtt_seconds", "follower")  # it asks all the time; who asked nothing meanwhile says 0
        wait_for(lambda: metrics(worker).get(rtt, 0) > 0, 30, "no round trip takes any time")
        assert found["towpath_restore_duration_seconds_count", ""] == found["towpath_owned_partitions", ""] == 2
        assert found["towpath_event_loop_lag_seconds_count", ""] > 0
        assert found["process_open_fds", ""] > 0

        ward.repair()
        straight = watched(ward, lambda rows: rows["keeper"]["consumed"] > 0 and rows["keeper"]["sent"] > 0, "--topics")
        assert straight["keeper"]["p99"] is None
        assert straight["keeper"]["cases"] > 0
        assert straight["keeper"]["why"] == ""

        worker.kill()  # now the topics are looked at without having to be told
        done = ward.towpath("top", MODULE, "--once", "--every", "0.3")
        assert done.returncode == 0, done.stderr
        assert {json.loads(line)["stage"]: json.loads(line)["p99"] for line in done.stdout.splitlines()} == dict.fromkeys(rows)


def test_who_waits_for_the_transaction_of_a_dead_predecessor_is_alive_not_ready_and_says_so(
    tmp_path: Path, kafka: LocalKafka
) -> None:
    with Ward(tmp_path, kafka.bootstrap) as ward:
        sent = f"{ward.name}.sent"
        dead = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": f"{ward.name}.dead", "log_level": 0})
        dead.init_transactions(30)
        dead.begin_transaction()
        group = Consumer(
            {"bootstrap.servers": kafka.bootstrap, "group.id": f"{ward.name}.keeper"}, logger=logging.getLogger("none")
        )
        dead.send_offsets_to_transaction([TopicPartition(sent, 0, 0)], group.consumer_group_metadata(), 30)
        group.close()

        worker = ward.start(MODULE, "keeper", instance="heir")
        said = "wait until the last owner's transaction is decided"
        wait_for(
            lambda: said in str(worker.page("/readyz")[1].get("reasons")), 60, "it does not say what it waits for", ward.logs
        )
        status, health = worker.page("/health")
        assert (status, health["healthy"]) == (200, True)
        assert said in health["stages"][0]["reason"]
        assert worker.page("/livez")[0] == 200
        assert worker.page("/readyz")[0] == 503
        dead.abort_transaction(30)
        wait_for(lambda: worker.page("/readyz")[0] == 200, 60, "it is still not ready", ward.logs)


def test_where_there_is_neither_a_worker_nor_a_cluster_it_says_what_to_do(tmp_path: Path, kafka: LocalKafka) -> None:
    with Ward(tmp_path, kafka.bootstrap) as ward:
        del ward.environment["TOWPATH_BOOTSTRAP"]
        done = ward.towpath("top", MODULE, "--once")
        assert done.returncode == 2
        assert "--bootstrap" in done.stderr
