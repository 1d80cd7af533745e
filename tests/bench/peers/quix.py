"""Quix Streams, exactly-once. `python -m tests.bench.peers.quix BOOTSTRAP GROUP SOURCE TARGET`.

Committed every 2,000 records, as all others are; by itself it commits every 5 seconds, so that nobody sees a result before.
"""

import sys
from typing import Any

from quixstreams import Application, message_context

from tests.bench.peers.work import BATCH, check, headers


def main(bootstrap: str, group: str, source: str, target: str) -> None:
    """Until it is killed."""
    app = Application(
        broker_address=bootstrap,
        consumer_group=group,
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_every=BATCH,
        auto_create_topics=False,
        use_changelog_topics=False,
        producer_extra_config={"partitioner": "murmur2_random", "linger.ms": 1, "retry.backoff.ms": 5},
        loglevel="WARNING",
    )
    plain: dict[str, Any] = {"key_deserializer": "bytes", "value_deserializer": "bytes"}
    sink: dict[str, Any] = {"key_serializer": "bytes", "value_serializer": "bytes"}

    def sent(_value: Any, _key: Any, _timestamp: int, given: Any) -> Any:
        at = message_context()
        return headers(source, at.partition, at.offset, given)

    frame = app.dataframe(app.topic(source, **plain)).apply(lambda value: check(value)[1]).set_headers(sent)
    frame.to_topic(app.topic(target, **sink))  # the key stays as it was: it is the order's number
    app.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
