"""Airflow: every hour, prove that nothing of the hour before was lost; where something differs, replay it and show the diff.

The one rule: a run is green only if the hour adds up. The report is published whatever it says.

Towpath has a virtual environment of its own (Airflow pins hundreds of packages) and is run as a command. What it needs to know
(TOWPATH_BOOTSTRAP, TOWPATH_STORE, …) it takes from the worker's environment, and so does this file:

    TOWPATH_BIN             the command; default /opt/towpath/bin/towpath
    TOWPATH_MODULE          the topology; default topologies.orders
    TOWPATH_STAGES          the stages that are replayed after a difference, by commas; default: those of the order flow
    TOWPATH_REPORTS         where reports go: a directory or a URL, s3://bucket/reports; default /var/lib/towpath-reports
    TOWPATH_TEXTFILE        a file for Prometheus, such as one in node exporter's textfile folder; default: none
    TOWPATH_RETRY_DELAY     seconds before an hour that could not be checked is tried again; default 60
    TOWPATH_RECONCILE_FROM  the first hour, 2026-11-01T00:00: hours that Airflow missed are done later; default: from now on
"""

import os
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.sdk import ObjectStoragePath, TriggerRule, dag, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.timetables.interval import CronDataIntervalTimetable

BIN = os.environ.get("TOWPATH_BIN", "/opt/towpath/bin/towpath")
MODULE = os.environ.get("TOWPATH_MODULE", "topologies.orders")
STAGES = os.environ.get("TOWPATH_STAGES", "intake,inventory,payment,settlement,notification,delivery").split(",")
REPORTS = os.environ.get("TOWPATH_REPORTS", "/var/lib/towpath-reports")
TEXTFILE = os.environ.get("TOWPATH_TEXTFILE", "")
RETRY_DELAY = float(os.environ.get("TOWPATH_RETRY_DELAY", "60"))
FIRST = os.environ.get("TOWPATH_RECONCILE_FROM", "")

DIFFERENT = 1  # the exit code of both commands


@dag(
    dag_id="towpath_reconcile",
    # Not "@hourly": since Airflow 3 that has no data interval, and this is about one.
    schedule=CronDataIntervalTimetable("0 * * * *", timezone="UTC"),
    start_date=datetime.fromisoformat(FIRST or "2026-01-01T00:00").replace(tzinfo=UTC),
    catchup=bool(FIRST),
    max_active_runs=1,
    tags=["towpath"],
    doc_md=__doc__,
)
def towpath_reconcile() -> None:
    """The graph: reconcile; if that fails, replay each stage; and in any case end as reconcile did."""

    @task(retries=2, retry_delay=RETRY_DELAY)
    def reconcile(data_interval_start: Any = None, data_interval_end: Any = None) -> None:
        """Fails at once if the hour has differences; tries again if it could not be checked."""
        hour = ["--since", data_interval_start.isoformat(), "--until", data_interval_end.isoformat()]
        metrics = ["--metrics", TEXTFILE] if TEXTFILE else []
        code = _towpath(["reconcile", MODULE, *hour, *metrics], f"reconcile-{_named(data_interval_start)}")
        if code == DIFFERENT:
            raise AirflowFailException(f"{MODULE} has differences; see the report in {REPORTS}")
        if code:
            raise AirflowException(f"{MODULE} could not be checked; the log above says why")

    @task(trigger_rule=TriggerRule.ALL_FAILED)
    def replay(stage: str, data_interval_start: Any = None, data_interval_end: Any = None) -> None:
        """What the stage's code of today makes of the hour's events, beside what was made then. Publishes no event."""
        hour = ["--from", data_interval_start.isoformat(), "--to", data_interval_end.isoformat()]
        if _towpath(["replay", MODULE, stage, *hour], f"replay-{stage}-{_named(data_interval_start)}") not in (0, DIFFERENT):
            raise AirflowException(f"stage {stage} could not be replayed; the log above says why")

    @task(trigger_rule=TriggerRule.ONE_FAILED)
    def verdict() -> None:
        """A run is as its last tasks are: without this one, replays that succeed would make a failed hour green."""
        raise AirflowFailException("the hour does not add up, or could not be checked")

    checked = reconcile()
    replayed = replay.expand(stage=STAGES)
    checked >> replayed
    [checked, replayed] >> verdict()


def _towpath(arguments: list[str], name: str) -> int:
    """Run the command, show what it says, publish its reports as `name`.html and .json; its exit code."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW")}
    with tempfile.TemporaryDirectory() as folder:
        page, data = Path(folder) / f"{name}.html", Path(folder) / f"{name}.json"
        with data.open("wb") as out:
            command = [BIN, *arguments, "--json", "--report", str(page)]
            done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True, env=environment, check=False)
        print(done.stderr, end="")  # noqa: T201  # into the task's log
        target = ObjectStoragePath(REPORTS if "://" in REPORTS else Path(REPORTS).absolute().as_uri())
        target.mkdir(parents=True, exist_ok=True)
        for file in (page, data):
            if file.exists() and file.stat().st_size:
                (target / file.name).write_bytes(file.read_bytes())
                print(f"published {target / file.name}")  # noqa: T201
    return done.returncode


def _named(moment: datetime) -> str:
    """A time as a file may be called."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H%MZ")


towpath_reconcile()
