"""The DAG in a real Airflow, with a command in the place of `towpath` that notes how it was called and ends as the test says.

Airflow is no dependency of ours: `make test-airflow` makes a virtual environment for it and runs this.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
AIRFLOW = Path(os.environ.get("AIRFLOW_VENV", ROOT / ".airflow")) / "bin" / "airflow"
COMMAND = """#!/bin/sh
echo "$@" >> calls
env | grep -c ^AIRFLOW >> secrets
[ $1 = reconcile ] && code=$RECONCILED
while [ $# -gt 0 ]; do [ "$1" = --report ] && echo "<html>" > "$2"; shift; done
echo '{}'
exit ${code:-1}
"""

pytestmark = pytest.mark.skipif(not AIRFLOW.exists(), reason="needs Airflow: make test-airflow")


class Airflow:
    """An Airflow of its own, with SQLite."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.reports = home / "reports"
        command = home / "towpath"
        command.write_text(COMMAND)
        command.chmod(0o755)
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "TOWPATH_"))},
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "deploy" / "airflow"),
            "TOWPATH_RETRY_DELAY": "1",
            "TOWPATH_BIN": str(command),
            "TOWPATH_STAGES": "intake,payment",
            "TOWPATH_REPORTS": str(self.reports),
        }
        assert self.call("db", "migrate").returncode == 0

    def call(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [AIRFLOW, *arguments],
            cwd=self.home,
            env=self._environment | more,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def run(self, moment: str, reconciled: int) -> tuple[int, Mapping[str, str]]:
        """One run of the DAG for a moment; its exit code, and the state of each task."""
        code = self.call("dags", "test", "towpath_reconcile", moment, RECONCILED=str(reconciled)).returncode
        runs = self._listed("dags", "list-runs", "towpath_reconcile")
        (run,) = (run["run_id"] for run in runs if run["logical_date"].startswith(moment[:13]))
        states = self._listed("tasks", "states-for-dag-run", "towpath_reconcile", run)
        return code, {f"{one['task_id']}{one['map_index']}": one["state"] or "none" for one in states}

    def _listed(self, *arguments: str) -> list[dict[str, str]]:
        listed: list[dict[str, str]] = json.loads(self.call(*arguments, "-o", "json").stdout.splitlines()[-1])  # after warnings
        return listed

    def calls(self) -> list[list[str]]:
        """What was asked of `towpath`, without the names of files."""
        noted = self.home / "calls"
        lines = [line.split() for line in noted.read_text().splitlines()]
        noted.unlink()
        return sorted(line[: line.index("--json")] for line in lines)


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    return Airflow(tmp_path_factory.mktemp("airflow"))


def test_an_hour_that_adds_up_is_green_and_its_report_is_published(airflow: Airflow) -> None:
    code, states = airflow.run("2026-11-24T10:00:00+00:00", 0)
    assert (code, states["reconcile"]) == (0, "success")
    assert {state for task, state in states.items() if task != "reconcile"} <= {"none", "skipped"}
    hour = ["--since", "2026-11-24T09:00:00+00:00", "--until", "2026-11-24T10:00:00+00:00"]
    assert airflow.calls() == [["reconcile", "topologies.orders", *hour]]
    assert (airflow.reports / "reconcile-2026-11-24T0900Z.html").read_text() == "<html>\n"
    assert (airflow.home / "secrets").read_text().split() == ["0"], "Airflow's own settings, passwords among them, stay there"


def test_a_difference_makes_the_run_red_and_starts_a_replay_of_each_stage(airflow: Airflow) -> None:
    code, states = airflow.run("2026-11-24T12:00:00+00:00", 1)
    assert code != 0
    assert states == {"reconcile": "failed", "replay0": "success", "replay1": "success", "verdict": "failed"}
    hour = ["--from", "2026-11-24T11:00:00+00:00", "--to", "2026-11-24T12:00:00+00:00"]
    reconciled, *replayed = airflow.calls()
    assert reconciled[0] == "reconcile"
    assert replayed == [["replay", "topologies.orders", stage, *hour] for stage in ("intake", "payment")]
    assert (airflow.reports / "reconcile-2026-11-24T1100Z.html").exists(), "also the report of what differs"
    assert (airflow.reports / "replay-payment-2026-11-24T1100Z.html").exists()


def test_what_could_not_be_checked_is_tried_again_before_it_is_red(airflow: Airflow) -> None:
    code, states = airflow.run("2026-11-24T14:00:00+00:00", 2)
    assert (code != 0, states["reconcile"]) == (True, "failed")
    assert [call[0] for call in airflow.calls()].count("reconcile") == 3
