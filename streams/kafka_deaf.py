"""Whether a consumer has gone deaf: there is more to be read of a partition, and it hands out nothing of it.

The one rule: it says so only after a whole interval in which the consumer was asked, had nothing, and should have had some.

librdkafka's consumers can stop fetching a partition for good when brokers die and come back, or when a resume is lost, and say
nothing (its issues 2830, 5153, 5591). The end of a partition is asked of a client that is made for this one question.
"""

import logging
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from streams.session import Place

_ANSWER: Final = 2.0  # seconds; who does not answer is asked again at the next look


class Hearing:
    """Looked at now and then. `properties` are librdkafka's, of an admin client."""

    def __init__(self, properties: Mapping[str, Any], log: logging.Logger) -> None:
        self._properties = dict(properties)
        self._log = log
        self._admin: AdminClient | None = None
        self._asked: dict[Place, Future[Any]] = {}
        self._reached: dict[Place, int] = {}

    def look(self, reached: Mapping[Place, int], *, idle: bool) -> frozenset[Place]:
        """Which of the places that are being read are deaf.

        `reached` has the offset up to which each has been handed out, `idle` says whether the consumer had no more
        to give at some time since the last look. Waits for nothing: the ends that it goes by were asked for at the last look.
        """
        deaf = {
            place
            for place, end in self._ends().items()
            if idle and place in reached and reached[place] == self._reached[place] < end
        }
        self._reached = dict(reached)
        self._ask()
        return frozenset(deaf)

    def _ends(self) -> dict[Place, int]:
        answered = {place: answer for place, answer in self._asked.items() if answer.done() and answer.exception() is None}
        return {place: answer.result().offset for place, answer in answered.items()}

    def _ask(self) -> None:
        self._asked = {}
        self._admin = AdminClient(self._properties, logger=self._log) if self._reached else None
        if self._admin is not None:
            with suppress(KafkaException):
                wanted = {TopicPartition(*place): OffsetSpec.latest() for place in self._reached}
                answers = self._admin.list_offsets(
                    wanted, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=_ANSWER
                )
                self._asked = {(tp.topic, tp.partition): answer for tp, answer in answers.items()}
