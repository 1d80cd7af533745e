import itertools
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from streams.local import LocalKafka

ROOT = Path(__file__).parents[2]
MODULE = '''
from pathlib import Path
import msgspec
from streams.record import event
from streams.stage import Context, Stage
from streams.topology import Topology

@event("{topic}", key="name")
class Seen(msgspec.Struct, frozen=True):
    name: str
    size: int

keeper = Stage("keeper")

@keeper.on
def keep(seen: Seen, ctx: Context) -> None:
    """Keep it."""

things = Topology("{topic}", sources=[Seen], stages=[keeper], partitions=2, schemas=Path(__file__).parent / "schemas")
'''
SCHEMA = {
    "type": "record",
    "name": "Seen",
    "fields": [{"name": "name", "type": "string"}, {"name": "size", "type": "long"}],
}


class Project:
    """A user's directory with one topology, whose only event goes to `topic`."""

    def __init__(self, directory: Path, bootstrap: str) -> None:
        self.directory = directory
        self.bootstrap = bootstrap
        self.topic = f"seen-{uuid.uuid4().hex[:8]}"
        (directory / "things.py").write_text(MODULE.format(topic=self.topic))
        schema = directory / "schemas" / "things" / "Seen" / "v1.avsc"
        schema.parent.mkdir(parents=True)
        schema.write_text(json.dumps(SCHEMA | {"topic": self.topic}))
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("TOWPATH_")}
        self.environment |= {"TOWPATH_BOOTSTRAP": bootstrap, "PYTHONPATH": str(ROOT)}
        assert self.towpath("schemas", "lock").returncode == 0

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "streams", *arguments],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def towpath(self, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        out, err = process.communicate(given, timeout=60)
        assert "Traceback" not in err
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def shown(self, *options: str) -> list[dict[str, Any]]:
        done = self.towpath("tail", self.topic, "--from-beginning", "--until-end", *options)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def empty(tmp_path: Path, kafka: LocalKafka) -> Project:
    return Project(tmp_path, kafka.bootstrap)


@pytest.fixture
def project(empty: Project) -> Project:
    """One whose topics exist."""
    assert empty.towpath("topics", "apply", "things").returncode == 0
    return empty


def seen(count: int) -> str:
    return "".join(f'{{"name": "n{i}", "size": {i}}}\n' for i in range(count))


def test_a_plan_is_a_list_for_programs_until_it_has_been_applied(empty: Project) -> None:
    planned = empty.towpath("topics", "plan", "things")
    assert planned.returncode == 1
    changes = [json.loads(line) for line in planned.stdout.splitlines()]
    assert [change["topic"] for change in changes][:2] == [empty.topic, f"{empty.topic}.keeper.retry"]
    assert empty.towpath("topics", "apply", "things").stdout.count("\n") == len(changes)
    again = empty.towpath("topics", "plan", "things")
    assert (again.returncode, again.stdout) == (0, "")


def test_bad_lines_are_told_by_their_number_and_the_rest_goes(project: Project) -> None:
    good, large = '{"name": "a", "size": 1}\n', '{"name": "c", "size": 9223372036854775808}\n'
    lines = f'{good}\n{{"name": "b"}}\n{large}no json\n{{"name": "d", "size": 4}}\n'
    sent = project.towpath("send", "things", "Seen", "-", given=lines)
    assert sent.returncode == 1
    assert [line.split(" ")[1] for line in sent.stderr.splitlines()] == ["-:3:", "-:4:", "-:5:"]
    result = json.loads(sent.stdout)
    assert (result["topic"], result["sent"], result["bad"]) == (project.topic, 2, 3)
    assert {(one["key"], one["value"]["size"]) for one in project.shown()} == {("a", 1), ("d", 4)}


def test_events_go_at_a_steady_rate(project: Project) -> None:
    assert project.towpath("send", "things", project.topic, "-", "--rate", "20", given=seen(21)).returncode == 0
    times = sorted(one["timestamp"] for one in project.shown())
    assert len(times) == 21
    assert 950 <= times[-1] - times[0] <= 3000
    assert max(b - a for a, b in itertools.pairwise(times)) < 500, "and not in bursts"


def test_sending_to_a_topic_that_is_not_there_says_what_to_do(empty: Project) -> None:
    sent = empty.towpath("send", "things", "Seen", "-", given=seen(1))
    assert sent.returncode == 2
    assert (
        sent.stderr == f"towpath: no such topic: {empty.topic}; make a topology's topics with `towpath topics apply MODULE`\n"
    )


def test_tail_shows_what_is_no_event_and_nothing_that_was_aborted(project: Project) -> None:
    producer = Producer({"bootstrap.servers": project.bootstrap, "transactional.id": project.topic, "log_level": 0})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(project.topic, b"aborted", b"k", partition=0)
    producer.flush()
    producer.abort_transaction(30)
    producer.begin_transaction()
    producer.produce(project.topic, b"\xffno avro", b"k", partition=0, headers=[("id", b"1"), ("id", b"\xff")])
    producer.commit_transaction(30)
    (shown,) = project.shown()
    assert shown["value"] == {"base64": "/25vIGF2cm8="}
    assert "wire format" in shown["undecodable"]
    assert shown["headers"] == [["id", "1"], ["id", {"base64": "/w=="}]]


def test_tail_follows_from_now_until_ctrl_c(project: Project) -> None:
    project.towpath("send", "things", "Seen", "-", given=seen(3))
    with project.start("tail", project.topic) as tail:
        assert tail.stderr
        assert tail.stdout
        assert tail.stderr.readline() == "towpath: waiting for records; Ctrl-C ends\n"
        project.towpath("send", "things", "Seen", "-", given='{"name": "late", "size": 0}\n')
        assert json.loads(tail.stdout.readline())["key"] == "late"
        tail.send_signal(signal.SIGINT)
        assert tail.wait(30) == 130
        assert tail.stderr.read().strip() == ""


def test_a_reader_of_the_pipe_that_goes_away_is_no_error(project: Project) -> None:
    project.towpath("send", "things", "Seen", "-", given=seen(2000))
    with project.start("tail", project.topic, "--from-beginning") as tail:
        assert tail.stdout
        assert tail.stderr
        tail.stdout.readline()
        tail.stdout.close()
        tail.wait(30)
        assert tail.stderr.read() == ""


def test_a_limit_is_kept(project: Project) -> None:
    project.towpath("send", "things", "Seen", "-", given=seen(20))
    assert len(project.shown("--limit", "7")) == 7


@pytest.fixture
def local(empty: Project) -> Iterator[Project]:
    """A project whose user has named no cluster."""
    del empty.environment["TOWPATH_BOOTSTRAP"]
    yield empty
    empty.towpath("down")


def test_without_a_named_cluster_commands_use_the_local_one_while_it_is_up(local: Project) -> None:
    bootstrap = json.loads(local.towpath("up", "--json").stdout)["bootstrap"]
    assert json.loads(local.towpath("status", "--json").stdout)["bootstrap"] == bootstrap
    applied = local.towpath("topics", "apply", "things")
    assert applied.returncode == 0
    assert f"towpath: using the local Kafka at {bootstrap}\n" in applied.stderr
    assert json.loads(local.towpath("down", "--json").stdout)["bootstrap"] is None
    assert local.towpath("topics", "plan", "things").returncode == 2
