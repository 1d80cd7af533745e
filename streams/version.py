"""Which code runs: asked once, as a process starts.

The one rule: it never fails and never waits long; what nobody knows is an empty text.
"""

import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from streams.config import Settings

_PATIENCE: Final = 3.0  # seconds for git


def code_version(settings: Settings, declared: str) -> str:
    """TOWPATH_VERSION, else `git describe` of where `declared` (`file:line`) is, else the version of Towpath."""
    if told := settings.variables.get("version", ""):
        return told
    folder = Path(declared.rpartition(":")[0] or ".").parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--tags"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
        if found.returncode == 0 and (said := found.stdout.strip()):
            return said
    except (OSError, subprocess.TimeoutExpired):  # no git here, or a slow disk
        pass
    try:
        return version("towpath")
    except PackageNotFoundError:
        return ""
