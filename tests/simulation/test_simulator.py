"""The simulator itself: same seed, same run; what it finds it cuts short; and it does nothing to a right product."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from functools import cache

import pytest
from click.testing import CliRunner

from streams.cli import towpath
from streams.simulator import Kit, Schedule, play
from streams.simulator.campaign import scheduled
from streams.simulator.schedule import POINTS, Action
from streams.simulator.shrink import shrink
from streams.simulator.workload import Workload
from tests.simulation import mutations, till
from topologies.orders import workload as orders


@cache
def kit(workload: str) -> Kit:
    known: dict[str, Workload] = {"orders": orders.workload, "till": till.workload}
    return Kit(known[workload])


def kinds(actions: Sequence[Action]) -> list[str]:
    return [action.what for action in actions]


@pytest.mark.parametrize("workload", ["orders", "till"])
def test_whatever_goes_wrong_all_is_as_it_should_be_in_the_end(workload: str) -> None:
    """A few seeds; `make simulate` plays thousands."""
    for seed in range(12):
        report = play(kit(workload), scheduled(kit(workload), seed))
        assert report.findings == (), f"seed {seed}"


@pytest.mark.parametrize("point", POINTS)
def test_a_worker_can_die_at_each_point_of_each_stage(point: str) -> None:
    """The same death at every stage, one after the other, with work before and behind it."""
    stages = [stage.name for stage in kit("orders").topology.stages]
    schedule: list[Action] = []
    for stage in stages:
        crashes = [Action("crash", f"{stage}/{number}", point, seconds=1.0) for number in range(2)]
        schedule += (*crashes, Action("produce", number=30, seed=2), Action("work", number=300, seed=1))
    report = play(kit("orders"), Schedule(0, tuple(schedule)), trace=True)
    assert report.findings == ()
    assert {line.split()[2].split("/")[0] for line in report.trace if line.endswith(" crashed")} == set(stages)


DIGEST = """
import hashlib
from tests.simulation.test_simulator import digest
print(digest(7))
"""


def digest(seed: int) -> str:
    report = play(kit("orders"), scheduled(kit("orders"), seed), trace=True)
    return hashlib.sha256("\n".join(report.trace).encode()).hexdigest()


def test_the_same_seed_is_the_same_run_in_every_process() -> None:
    """Also where Python hashes text otherwise."""
    run = [sys.executable, "-c", DIGEST]
    other = subprocess.run(run, env={"PYTHONHASHSEED": "12", "PYTHONPATH": "."}, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == digest(7) == digest(7)


def test_a_failure_is_cut_to_the_shortest_schedule_that_still_fails() -> None:
    with mutations.not_rewound():
        seed, report = next(
            (seed, report) for seed in range(60) if (report := play(kit("orders"), scheduled(kit("orders"), seed))).findings
        )
        whole = scheduled(kit("orders"), seed)
        short = shrink(kit("orders"), whole, report, seconds=10)
        assert len(short.actions) < len(whole.actions) / 2
        assert {"produce", "work"} <= set(kinds(short.actions))
        assert report.findings[0].kind in {finding.kind for finding in play(kit("orders"), short).findings}
    assert play(kit("orders"), short).findings == (), "it is the bug that fails, and not the schedule"


def test_the_command_says_that_all_is_right_in_json() -> None:
    done = CliRunner().invoke(towpath, ["simulate", "topologies.orders", "--seed", "3", "--json"])
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert (told["seeds"], told["failed"]) == (1, None)
    assert told["events"] > 0


def test_the_command_shows_a_failure_with_its_schedule_and_how_to_play_it_again() -> None:
    with mutations.tombstone_forgotten():
        done = CliRunner().invoke(towpath, ["simulate", "topologies.orders", "--seed", "0", "--shrink", "5"])
    assert done.exit_code == 1
    assert "the shortest schedule that fails" in done.stdout
    assert "towpath simulate topologies.orders --seed 0" in done.stdout


def test_a_topology_without_a_workload_is_told_what_is_missing() -> None:
    done = CliRunner().invoke(towpath, ["simulate", "tests.support.clinic", "--seeds", "1"])
    assert "nothing says how" in str(done.exception)
