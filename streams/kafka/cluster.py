"""What a session asks a cluster: whether its topics fit together, where partitions begin and end, where a group stands.

The one rule: it only asks. What cannot be answered now is asked again at the next poll.
"""

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from streams.errors import SetupError
from streams.session import Place

ANSWER: Final = 5.0
"""Seconds that one question to the cluster may take; it is asked again at the next poll."""
MISSING: Final = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC)
_LEVEL: Final = "give every topic of the flow as many (kafka-topics.sh --alter), retry and dlq too; keys move: see the runbook"


def check_topics(client: Any, followed: Sequence[str]) -> int:
    """See that every topic exists and has as many partitions as the first, the lead. How many; 0 if the broker is silent."""
    counts = {}
    for topic in followed:
        try:
            found = client.list_topics(topic, ANSWER).topics[topic]
        except KafkaException:
            return 0
        counts[topic] = 0 if found.error is not None else len(found.partitions)
        if not counts[topic]:
            raise SetupError("there is no such topic", where=topic, fix="create the topics: towpath topics apply MODULE")
    lead = counts[followed[0]]
    for topic, count in counts.items():
        if count != lead:
            raise SetupError(f"has {count} partitions, but {followed[0]} has {lead}", where=topic, fix=_LEVEL)
    return lead


def offsets(admin: AdminClient, *questions: tuple[list[TopicPartition], OffsetSpec]) -> list[dict[Place, int]]:
    """Where partitions begin or end, transactions that are open included; for each question, and all are asked at once.

    Raises `KafkaException`.
    """
    level: Any = {"isolation_level": IsolationLevel.READ_UNCOMMITTED, "request_timeout": ANSWER}
    asked = [admin.list_offsets(dict.fromkeys(places, spec), **level) if places else {} for places, spec in questions]
    found = [{(tp.topic, tp.partition): answer.result().offset for tp, answer in answers.items()} for answers in asked]
    if any(offset < 0 for each in found for offset in each.values()):  # "not known": to begin there is to begin anywhere
        raise KafkaException(KafkaError(KafkaError._NO_OFFSET, "a broker gave no offset"))
    return found


def committed(
    properties: Mapping[str, Any], logger: logging.Logger, partitions: list[TopicPartition]
) -> dict[Place, TopicPartition]:
    """Where a group stands in each partition, once no transaction may change it any more. Raises `KafkaException`.

    Asked of a consumer that is made for it: a client that has lived through a broker's death may ask the old coordinator, or
    with the leader's old epoch, for ever. Not of an `AdminClient`: when it loses the coordinator at the wrong moment, that ends
    the process (librdkafka's 5397).
    """
    asking = Consumer(dict(properties), logger=logger)
    try:
        found = asking.committed(partitions, ANSWER)
    finally:
        close_aside(asking)
    for place in found:
        if place.error is not None:
            raise KafkaException(place.error)
    return {(place.topic, place.partition): place for place in found}


def close_aside(consumer: Consumer) -> None:
    """Let go of a consumer that nobody needs any more, on a thread: it may wait for who is away."""
    threading.Thread(target=consumer.close, name="towpath-close", daemon=True).start()
