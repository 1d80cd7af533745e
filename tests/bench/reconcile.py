"""Reconciling: how many events a second it takes in and judges, and in how much memory.

The one rule: the topics are made, not read, so that the figure is of the machine's own work; Kafka's reading comes on top.
Half of the events are inputs, half their outputs; there is a receipt for every 2,000 inputs. It runs in a process of its own.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from streams.codec import Codec
from streams.ops.reconcile.judge import judge
from streams.ops.reconcile.ledger import Ledger
from streams.receipts import Receipt, Span
from streams.record import Record
from streams.registry import FolderRegistry
from streams.travel import output_id
from tests.bench.flow import bench, checking

_BATCH: Final = 2000
_NOW: Final = 1_700_000_000_000
_INPUT: Final = checking.topics[0]


def measure(_: Any, *, quick: bool) -> dict[str, Any]:
    """In a process of its own, whose memory is all its own."""
    events = 200_000 if quick else 1_000_000
    command = [sys.executable, "-m", "tests.bench.reconcile", str(events)]
    done = subprocess.run(command, check=True, capture_output=True, timeout=1800)
    return {"what": __doc__, "targets": {"MiB": 1024}, **json.loads(done.stdout)}


def records(events: int) -> Iterator[list[Record]]:
    """Transactions: inputs, outputs and a receipt."""
    emitted = next(topic for topic, cls in bench.by_topic.items() if cls in checking.emits)
    encode = Codec([Receipt], FolderRegistry(bench.schemas)).encoder(Receipt)
    for number in range(events // 2 // _BATCH):
        batch, partition = [], number % bench.partitions
        start = number // bench.partitions * _BATCH
        for offset in range(start, start + _BATCH):
            cause = output_id(f"{partition}/{offset}", "outside", 0)
            known = output_id(cause, checking.name, 0)
            batch.append(Record(_INPUT, partition, offset, b"k", b"", (("id", cause.encode()),), _NOW))
            headers = (("id", known.encode()), ("cause", cause.encode()))
            batch.append(Record(emitted, partition, offset, b"k", b"", headers, _NOW))
        span = (Span(_INPUT, partition, start, start + _BATCH),)
        at = datetime.fromtimestamp(_NOW / 1000, UTC)
        counts = (_BATCH, {"done": _BATCH}, {emitted: _BATCH}, 0, 0, 0, 0, 0, 0)
        value = encode(Receipt(checking.name, "a", "s", number, "1", at, span, *counts, ()))
        batch.append(Record(f"{bench.name}.receipts", 0, number, b"k", value, (), _NOW))
        yield batch


def main(events: int) -> dict[str, Any]:
    """Seconds, events per second, and MiB at most."""
    taking = making = 0.0
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(bench, Path(folder))
        ends = {(topic, number): 10**9 for topic in bench.by_topic for number in range(bench.partitions)}
        ledger.bounds(dict.fromkeys(ends, 0), ends)
        began = time.perf_counter()
        for batch in records(events):
            making += (now := time.perf_counter()) - began
            ledger.take(batch)
            taking += (began := time.perf_counter()) - now
        result = judge(ledger, _NOW)
        judging = time.perf_counter() - began
        disk = (Path(folder) / "ledger.db").stat().st_size
        ledger.close()
    if result.differences or sum(result.counts.values()) != events:
        raise SystemExit(f"{len(result.differences)} differences in {sum(result.counts.values())} events")
    return {
        "events": events,
        "seconds": {"taking in": taking, "judging": judging},
        "CPU seconds, the making of the records among them": time.process_time(),
        "events/s": events / (taking + judging),
        "MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "MiB on disk": disk / 2**20,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(int(sys.argv[1]))))
