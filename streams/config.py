"""Settings: what differs between two places where the same topology runs.

The one rule: everything comes from `TOWPATH_*` variables (and the command line, which overrides them); nothing is read later.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import msgspec

from streams.errors import SetupError

PREFIX = "TOWPATH_"


class Settings(msgspec.Struct, frozen=True):
    """One process's settings.

    `kafka` holds librdkafka properties by their own names and wins over the runtime's defaults. `variables` are all
    `TOWPATH_*` variables without their prefix, in lower case: a topology's ports find their own there.
    """

    bootstrap: str = ""
    store: str = ""
    instance: str = ""
    directory: Path = Path(".towpath")
    kafka: Mapping[str, str] = {}
    variables: Mapping[str, str] = {}

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the variables. Raises `SetupError` for a librdkafka property that is not `name=value`.

        TOWPATH_BOOTSTRAP   host:port[,host:port…] of the cluster
        TOWPATH_STORE       the stages' database, as an SQLAlchemy URL; default: SQLite in TOWPATH_DIR
        TOWPATH_INSTANCE    this copy's stable name, e.g. a StatefulSet's pod name
        TOWPATH_DIR         where local state lives; default .towpath
        TOWPATH_KAFKA       librdkafka properties: `name=value` separated by `;`, or `@FILE` with one a line
        """
        environ = os.environ if environ is None else environ
        variables = {k.removeprefix(PREFIX).lower(): v for k, v in environ.items() if k.startswith(PREFIX)}
        directory = Path(variables.get("dir", ".towpath"))
        return cls(
            bootstrap=variables.get("bootstrap", ""),
            store=variables.get("store", "") or f"sqlite:///{directory / 'store.db'}",
            instance=variables.get("instance", ""),
            directory=directory,
            kafka=_properties(variables.get("kafka", "")),
            variables=variables,
        )


def _properties(text: str) -> dict[str, str]:
    if text.startswith("@"):
        path = Path(text[1:])
        try:
            lines, where = path.read_text(encoding="utf-8").splitlines(), str(path)
        except OSError as error:
            raise SetupError(
                f"cannot read {path}: {error.strerror}", where="TOWPATH_KAFKA", fix="name a readable file"
            ) from None
    else:
        lines, where = text.split(";"), "TOWPATH_KAFKA"
    properties = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.strip():
            raise SetupError(f"{line!r} is no librdkafka property", where=f"{where}:{number}", fix="write name=value")
        properties[name.strip()] = value.strip()
    return properties
