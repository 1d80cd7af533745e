"""What is under deploy/ starts what there is: the unit's command is one of ours, its settings are read by somebody."""

import configparser
import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from streams.cli.flow import run
from streams.cli.lag import address, lag
from streams.cli.reconcile import reconcile
from streams.cli.replay import replay
from streams.config import Settings
from streams.ops.cases import moment
from streams.topology import load

DEPLOY = Path(__file__).parents[2] / "deploy"


def unit(name: str) -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(interpolation=None, strict=False)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]  # its own way to keep the case
    parsed.read(DEPLOY / name)
    return parsed


def test_the_unit_runs_a_stage_with_options_that_exist() -> None:
    service = unit("systemd/towpath@.service")["Service"]
    program, verb, module, stage, *options = service["ExecStart"].split()
    assert program.endswith("/towpath")
    assert (verb, stage) == ("run", "%i")
    known = {name for option in run.params for name in option.opts}
    assert {option for option in options if option.startswith("--")} <= known
    assert load(module).stages
    assert float(service["TimeoutStopSec"]) > 10, "SIGTERM may take 10 s"


def test_the_environment_is_of_settings_that_are_read() -> None:
    lines = (DEPLOY / "systemd" / "towpath.env").read_text().splitlines()
    environ = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    settings = Settings.load(environ)
    assert settings.bootstrap == environ["TOWPATH_BOOTSTRAP"]
    assert settings.store == environ["TOWPATH_STORE"]
    assert settings.directory == Path(environ["TOWPATH_DIR"])


def test_the_unit_of_the_timer_reconciles_the_last_whole_hour_and_ends_as_that_does(tmp_path: Path) -> None:
    service = unit("systemd/towpath-reconcile.service")
    script = DEPLOY / Path(service["Service"]["ExecStart"]).name
    assert service["Service"]["ExecStart"] == "/opt/towpath/deploy/reconcile-hour"
    assert (DEPLOY / "cron" / "towpath-reconcile").read_text().count("/opt/towpath/deploy/reconcile-hour") == 1
    command = tmp_path / "towpath"
    command.write_text('#!/bin/sh\necho "$@"\nexit 1\n')
    command.chmod(0o755)
    done = subprocess.run(
        [script], env={"TOWPATH_BIN": str(command), "TOWPATH_REPORTS": "/reports"}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "")
    verb, module, *arguments = done.stdout.split()
    options = reconcile.make_context(verb, [module, *arguments]).params
    now = datetime.now(UTC)
    since, until = moment(options["since"], now), moment(options["until"], now)
    assert until - since == timedelta(hours=1)
    assert (until.minute, until.second) == (0, 0)
    assert timedelta() <= now - until < timedelta(hours=1, minutes=1)
    assert str(options["report"]).startswith("/reports/reconcile-")
    assert str(options["metrics"]) == "/reports/reconcile.prom"


def test_the_unit_of_the_lag_exporter_serves_where_prometheus_looks_what_the_timer_has_written() -> None:
    service, timer = (unit(f"systemd/towpath-{name}.service")["Service"] for name in ("lag", "reconcile"))
    _, verb, *arguments = service["ExecStart"].split()
    assert verb == "lag"
    options = lag.make_context(verb, arguments).params
    assert load(options["module"]).stages
    host, port = address(options["serve"])
    assert f"- {host}:{port}\n" in (DEPLOY / "prometheus" / "targets" / "lag.yml").read_text()
    reports = timer["Environment"].removeprefix("TOWPATH_REPORTS=")
    assert str(options["include"]) == f"{reports}/reconcile.prom"
    assert reports == f"/var/lib/{timer['StateDirectory']}"
    for name in ("User", "DynamicUser", "StateDirectory", "EnvironmentFile"):
        assert service[name] == timer[name], "else one cannot read what the other writes"


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    units = list((DEPLOY / "systemd").glob("towpath*.[st]*"))
    assert len(units) == 4
    for path in units:  # what they start is not installed here
        text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", path.read_text(), flags=re.MULTILINE)
        (tmp_path / path.name.replace("@.", "@intake.")).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *sorted(tmp_path.glob("towpath*"))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, [line for line in done.stderr.splitlines() if "towpath" in line]) == (0, [])


def test_the_dag_calls_commands_that_exist_with_options_that_they_have() -> None:
    dag = (DEPLOY / "airflow" / "towpath_reconcile.py").read_text()
    for command in (reconcile, replay):
        (call,) = (line for line in dag.splitlines() if f'_towpath(["{command.name}"' in line)
        assert "*hour" in call
    for command, names in ((reconcile, ("--since", "--until")), (replay, ("--from", "--to"))):
        assert f'hour = ["{names[0]}", data_interval_start.isoformat(), "{names[1]}", ' in dag
        assert {*names, "--json", "--report"} <= {name for option in command.params for name in option.opts}
    stages = re.search(r'"TOWPATH_STAGES", "([a-z,-]+)"', dag)
    assert stages is not None
    assert stages[1].split(",") == [stage.name for stage in load("topologies.orders").stages]
