"""A worker as its supervisor sees it: how it starts, what its pages say, how it ends and with which code."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from streams.local import FAILOVER, LocalKafka
from tests.support.flow import Flow
from tests.support.pump import Blow, Pump
from tests.support.reader import Reader
from tests.support.workers import wait_for

SLOW = "group.protocol=classic;session.timeout.ms=45000"  # who does not leave the group is missed only after the test


@contextmanager
def pumping(flow: Flow) -> Iterator[Pump]:
    """Send records through the flow; at the end, whatever was sent has ended as it should."""
    with Reader(flow.environment["TOWPATH_BOOTSTRAP"], [*flow.events, *flow.dlqs, *flow.retries]) as reader:
        yield Pump(reader, flow, send=lambda n: flow.send(f"k{n % 40}", n // 40), ended=lambda: reader.count(*flow.ends))
        reader.to_end()
        flow.check(reader.records)


def test_sigterm_drains_commits_leaves_the_group_and_ends_with_0(tmp_path: Path, kafka: LocalKafka) -> None:
    with Flow(tmp_path, kafka.bootstrap, SLOW) as flow:
        first, second = flow.worker("a"), flow.worker("b")
        flow.wait_until_ready()

        def stop() -> None:
            flow.workers.remove(first)  # nobody starts it again
            code, seconds = first.terminate()
            assert code == 0, first.log[-3000:]
            assert seconds < 10

        with pumping(flow) as pump:
            pump.run(1500, 200, [Blow(400, "SIGTERM", stop)])
            assert all(len(partitions) == 6 for partitions in second.owned().values())  # long before a session could end
        assert "ERROR" not in first.log
        assert second.terminate()[0] == 0


def test_the_probes_say_that_it_is_up_ready_and_alive_and_the_log_is_for_programs(tmp_path: Path, kafka: LocalKafka) -> None:
    with Flow(tmp_path, kafka.bootstrap) as flow:
        worker = flow.worker("a")
        wait_for(lambda: worker.page("/startupz")[0] == 200, 60, "it is not up", flow.logs)
        wait_for(lambda: worker.page("/readyz")[0] == 200, 60, "it is not ready", flow.logs)
        assert worker.page("/startupz") == (200, {"started": True, "stages": {"split": True, "join": True}})
        assert worker.page("/livez") == (200, {"alive": True, "reasons": {}})
        assert worker.terminate()[0] == 0
    owning = [line for line in map(json.loads, worker.log.splitlines()) if "owns partitions" in line["message"]]
    assert {line["stage"] for line in owning} == {"split", "join"}


def test_a_broker_that_dies_and_comes_back_costs_nothing(tmp_path: Path) -> None:
    with LocalKafka.start(tmp_path / "kafka", overrides=FAILOVER) as broker, Flow(tmp_path, broker.bootstrap) as flow:
        worker = flow.worker("a")
        flow.wait_until_ready()

        def die() -> None:
            broker.kill()
            broker.launch()

        with pumping(flow) as pump:
            pump.run(1500, 200, [Blow(300, "kill", die), Blow(800, "kill", die)])
        assert "Traceback" not in worker.log
        assert worker.terminate()[0] == 0


def test_sigterm_while_the_broker_is_away_ends(tmp_path: Path) -> None:
    with LocalKafka.start(tmp_path / "kafka", overrides=FAILOVER) as broker, Flow(tmp_path, broker.bootstrap) as flow:
        worker = flow.worker("a")
        flow.wait_until_ready()
        with Reader(broker.bootstrap, flow.ends) as reader:
            for number in range(10_000):  # more than it can do in the meantime
                flow.send(f"k{number % 40}", number // 40)
            wait_for(lambda: reader.count(*flow.ends) > 100, 60, "nothing comes", flow.logs)
        broker.kill()
        _, seconds = worker.terminate()
        assert seconds < 20, "it takes 7, and is given 10; here other tests want the machine as well"
        assert "Traceback" not in worker.log


def test_a_worker_whose_topics_are_missing_says_so_in_one_line(tmp_path: Path, kafka: LocalKafka) -> None:
    with Flow(tmp_path, kafka.bootstrap, topics=False) as flow:
        worker = flow.worker("a", "split")
        assert worker.ended(30) == 1
        errors = [line for line in worker.log.splitlines() if "ERROR" in line]
        assert len(errors) == 1, worker.log
        assert flow.topic("asked") in errors[0]
        assert "towpath topics apply" in errors[0]
        assert "Traceback" not in worker.log


def test_a_worker_whose_topic_gets_more_partitions_ends_and_says_what_to_do(tmp_path: Path, kafka: LocalKafka) -> None:
    with Flow(tmp_path, kafka.bootstrap) as flow:
        worker = flow.worker("a", "split")
        flow.wait_until_ready()
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        admin.create_partitions([NewPartitions(flow.topic("asked"), 8)])[flow.topic("asked")].result(30)
        assert worker.ended(60) == 1
        errors = [line for line in worker.log.splitlines() if "ERROR" in line]
        assert len(errors) == 1, worker.log
        assert f"has 6 partitions, but {flow.topic('asked')} has 8" in errors[0]
        assert "kafka-topics.sh --alter" in errors[0]


def test_the_pages_say_whether_it_is_ready_and_what_it_owns(tmp_path: Path, kafka: LocalKafka) -> None:
    with Flow(tmp_path, kafka.bootstrap) as flow:
        worker = flow.worker("a")
        flow.wait_until_ready()
        assert worker.page("/ready") == (200, {"ready": True, "stages": {"split": True, "join": True}})
        with pumping(flow) as pump:
            pump.run(400, 200, [])
            status, page = worker.page("/health")
            assert status == 200
            assert page["healthy"] is True
            split, join = page["stages"]
            assert (split["stage"], split["instance"], split["partitions"]) == ("split", "a", [0, 1, 2, 3, 4, 5])
            assert split["records"]["done"] + split["records"]["reject"] + split["records"]["retry"] >= 400
            assert join["records"]["done"] > 300
        worker.terminate()


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_the_same_instance_started_twice_ends_the_first_and_the_flow_goes_on(
    tmp_path: Path, kafka: LocalKafka, protocol: str
) -> None:
    with Flow(tmp_path, kafka.bootstrap, f"group.protocol={protocol}") as flow:
        first = flow.worker("a")
        flow.wait_until_ready()

        with pumping(flow) as pump:
            pump.run(500, 200, [])
            flow.workers.remove(first)  # nobody starts it again
            second = flow.worker("a")
            wait_for(lambda: second.ready, 60, "the second is not ready", flow.logs)
            pump.run(1500, 200, [])
            assert first.ended(30) == 1
        assert "fenced" in first.log
        assert "Traceback" not in first.log
        assert second.terminate()[0] == 0
