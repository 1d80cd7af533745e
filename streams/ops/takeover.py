"""The one writer of a kind: whoever opens it later fences whoever had it before.

The one rule: when `take_over` returns, nothing that an earlier writer had under way can still be committed.
"""

from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaException

from streams import topics
from streams.errors import SetupError
from streams.kafka_writer import Writer


def take_over(properties: Mapping[str, Any], transactional_id: str, who: str) -> Writer:
    """An open writer. `who` may write with this id, says the `SetupError` of a cluster that refuses."""
    try:
        writer = Writer(properties, transactional_id, topics.QUIET)
        writer.open()
    except KafkaException as error:
        fix = f"{who} may write with the transactional id {transactional_id}"
        raise SetupError(f"the cluster refuses: {error.args[0].str()}", fix=fix) from None
    return writer
