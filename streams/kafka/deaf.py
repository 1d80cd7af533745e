"""Whether a consumer has gone deaf: there is more to be read of a partition, or its group has gone on without it.

The one rule: it says so only after a whole interval in which the consumer was served, and should have had more than it had.

librdkafka's consumers can stop fetching a partition for good when brokers die and come back, or when a resume is lost, and say
nothing (its issues 2830, 5153, 5591); a member that its group has dropped meanwhile may never join again. The cluster is asked
by a client of its own, and by a new one when that has not answered: it may have gone deaf as well.
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
_MISSED: Final = 2  # looks on end, with the cluster there, at which a member is astray


class Hearing:
    """Looked at now and then: what a consumer that reads still hears.

    `properties` are librdkafka's, of an admin client; `logger` is for its own lines.
    """

    def __init__(self, properties: Mapping[str, Any], logger: logging.Logger) -> None:
        self._properties = dict(properties)
        self._logger = logger
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
        answered = bool(self._asked) and len(self._ends()) == len(self._asked)
        if not answered:  # who answers is kept: a new client costs the brokers ten times as much
            self._admin = None
        self._asked = {}
        if self._reached:
            self._admin = self._admin or AdminClient(self._properties, logger=self._logger)
            with suppress(KafkaException):
                wanted = {TopicPartition(*place): OffsetSpec.latest() for place in self._reached}
                answers = self._admin.list_offsets(
                    wanted, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=_ANSWER
                )
                self._asked = {(tp.topic, tp.partition): answer for tp, answer in answers.items()}


class Belonging:
    """Looked at now and then: whether a member finds back to its group.

    `properties` are librdkafka's, of an admin client; `logger` is for its own lines. The cluster is taken to be there when it
    knows where the first partition of `topic` ends.
    """

    def __init__(self, properties: Mapping[str, Any], logger: logging.Logger, topic: str) -> None:
        self._properties = dict(properties)
        self._logger = logger
        self._place = TopicPartition(topic, 0)
        self._admin: AdminClient | None = None
        self._asked: Future[Any] | None = None
        self._looks = 0

    def look(self, astray: bool) -> bool:
        """Whether the member has been `astray` for some looks on end, though the cluster was there: it had the time to join.

        Waits for nothing: what it goes by was asked for at the last look. The group itself is not asked for: an `AdminClient`
        that loses the coordinator at the wrong moment ends the process (librdkafka's 5397). `describe_cluster` does so where
        a broker that has just started names none in its answer (`rd_kafka_DescribeClusterResponse_parse`, 2.16).
        """
        answered = self._asked is not None and self._asked.done() and self._asked.exception() is None
        self._looks = self._looks + answered if astray else 0
        self._admin, self._asked = None, None
        if self._looks >= _MISSED:
            self._looks = 0
            return True
        if astray:
            self._admin = AdminClient(self._properties, logger=self._logger)
            with suppress(KafkaException):
                answers = self._admin.list_offsets({self._place: OffsetSpec.latest()}, request_timeout=_ANSWER)
                self._asked = answers[self._place]
        return False
