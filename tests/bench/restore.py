"""The restoration of one partition's parking table, in a process of its own so that its memory can be told.

The one rule: it is the session and the lanes that a worker has. Run as `python -m tests.bench.restore BOOTSTRAP TOPIC TABLE`.
"""

import json
import resource
import sys
import time

import psutil

from streams.kafka.session import KafkaSession
from streams.lanes import Lanes
from streams.session import Inputs


def restore(bootstrap: str, topic: str, table: str) -> dict[str, float]:
    """Seconds from the assignment to the end of the restoration, and MiB that it took: what stays, and the peak."""
    session = KafkaSession(
        Inputs(topic, (), table),
        group="bench.restore",
        transactional_id="bench.restore",
        properties={"bootstrap.servers": bootstrap},
    )
    lanes = Lanes(table, session.token)
    session.poll(1, 0.0)
    before = psutil.Process().memory_info().rss
    began = 0.0
    while True:
        polled = session.poll(2000, 0.1)
        if polled.table and not began:
            began = time.monotonic()
        for record in polled.table:
            lanes.load(record)
        for claim in polled.gained:
            lanes.gained(claim.partition)
        if polled.gained:
            break
    seconds = time.monotonic() - began
    mib = 2**20
    found = {
        "parked": sum(count for count, _ in lanes.parked().values()),
        "seconds": seconds,
        "MiB": (psutil.Process().memory_info().rss - before) / mib,
        "MiB at the peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before / mib,
        "MiB by the stage's own count": sum(size for _, size in lanes.parked().values()) / mib,
    }
    session.close()
    return found


if __name__ == "__main__":
    print(json.dumps(restore(*sys.argv[1:4])))  # noqa: T201  # the parent reads it
