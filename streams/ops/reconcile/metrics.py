"""What a reconciliation says to Prometheus: one text file, for node exporter or for `towpath lag --serve --include`.

The one rule: the file is there whole or not at all, and only of a run that could judge; one that is old says so by its time.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from streams.errors import SetupError
from streams.ops.reconcile.findings import Result
from streams.telemetry import Sample, textfile


def samples(result: Result, took: float, now: float) -> Iterator[Sample]:
    """The figures. `took` is in seconds, `now` in seconds since the Unix epoch."""
    topology = result.topology
    yield "towpath_reconcile_last_run_timestamp_seconds", (topology,), now
    yield "towpath_reconcile_differences", (topology, "all"), len(result.differences) + result.unlisted
    for kind, count in result.kinds.items():
        yield "towpath_reconcile_differences", (topology, kind), count
    yield "towpath_reconcile_unknown", (topology,), sum(result.unknown.values())
    yield "towpath_reconcile_events", (topology,), sum(result.counts.values())
    yield "towpath_reconcile_receipts", (topology,), result.receipts
    yield "towpath_reconcile_duration_seconds", (topology,), took


def write(path: Path, result: Result, took: float, now: float) -> None:
    """Write the file, by rename. Raises `SetupError`."""
    new = path.with_name(f".{path.name}.{os.getpid()}")  # node exporter reads what ends in .prom
    try:
        new.write_bytes(textfile(samples(result, took, now)))
        new.chmod(0o644)
        new.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink()
        raise SetupError(f"cannot write: {error.strerror}", where=str(path), fix="name another file") from None
