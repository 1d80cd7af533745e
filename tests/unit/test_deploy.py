"""What is under deploy/ starts what there is: the unit's command is one of ours, its settings are read by somebody."""

import configparser
from pathlib import Path

from streams.cli.flow import run
from streams.config import Settings
from streams.topology import load

DEPLOY = Path(__file__).parents[2] / "deploy" / "systemd"


def test_the_unit_runs_a_stage_with_options_that_exist() -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # its own way to keep the case
    unit.read(DEPLOY / "towpath@.service")
    program, verb, module, stage, *options = unit["Service"]["ExecStart"].split()
    assert program.endswith("/towpath")
    assert (verb, stage) == ("run", "%i")
    known = {name for option in run.params for name in option.opts}
    assert {option for option in options if option.startswith("--")} <= known
    assert load(module).stages
    assert float(unit["Service"]["TimeoutStopSec"]) > 10, "SIGTERM may take 10 s"


def test_the_environment_is_of_settings_that_are_read() -> None:
    lines = (DEPLOY / "towpath.env").read_text().splitlines()
    environ = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    settings = Settings.load(environ)
    assert settings.bootstrap == environ["TOWPATH_BOOTSTRAP"]
    assert settings.store == environ["TOWPATH_STORE"]
    assert settings.directory == Path(environ["TOWPATH_DIR"])
