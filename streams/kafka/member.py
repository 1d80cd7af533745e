"""The member of a Kafka session: it subscribes to the lead topic, owns partitions of it, and reads nothing.

The one rule: a partition is given up only after the session has been told that it goes.
"""

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from streams.errors import Fenced, SetupError
from streams.kafka.cluster import ANSWER, MISSING, check_topics, close_aside
from streams.kafka.deaf import Belonging
from streams.kafka.stats import Statistics

log = logging.getLogger("towpath.kafka")

_SLICE: Final = 0.1  # seconds that it may wait for the group's answer as it leaves

Came = Callable[[Collection[int]], None]
"""Told which partitions have come."""
Goes = Callable[[Collection[int], Any], None]
"""Told which partitions go, and the group's metadata while they are still owned; None if they may be another's by now."""


class Member:
    """A consumer of `topics[0]` with `properties`, librdkafka's; `admin` are those of clients that ask the cluster.

    `logger` is for librdkafka's own lines. `partitions` is how many the topics had at the last `check`.
    """

    def __init__(  # what a member is made of, put together in one place: `kafka/reader.py`
        self,
        topics: Sequence[str],
        properties: Mapping[str, Any],
        admin: Mapping[str, Any],
        logger: logging.Logger,
        statistics: Statistics,
        told: tuple[Came, Goes],
    ) -> None:
        self.partitions = 0
        self._topics = topics
        self._properties = dict(properties)
        self._logger = logger
        self._statistics = statistics
        self._came, self._goes = told
        self._belonging = Belonging(admin, logger, topics[0])
        self._consumer = self._fresh()
        # What the group's metadata begin with as long as there is no generation, which stands before the group's name.
        self._stranger: bytes = self._consumer.consumer_group_metadata().partition(self._properties["group.id"].encode())[0]
        self._subscribed = False

    def serve(self) -> None:
        """Take part in rebalances; the first time, join. Raises `Fenced`, or `SetupError` where topics do not fit together."""
        if not self._subscribed:
            self.check()
            told = {"on_assign": _whole(self._assigned), "on_revoke": _whole(self._revoked), "on_lost": _whole(self._lost)}
            self._consumer.subscribe([self._topics[0]], **told)
            self._subscribed = True
        while (message := self._consumer.poll(0)) is not None:
            error = message.error()
            if error is None:  # fetched before the pause took hold, or the pause was lost; the follower reads it
                self._consumer.pause([TopicPartition(message.topic(), message.partition())])
                continue
            if error.fatal():
                raise Fenced(f"the member is beyond repair: {error.str()}")
            if error.code() in MISSING:
                fix = "create the topics: towpath topics apply MODULE"
                raise SetupError(error.str(), where=self._topics[0], fix=fix)

    def check(self) -> None:
        """See that all topics have as many partitions."""
        self.partitions = check_topics(self._consumer, self._topics)

    def group(self) -> Any:
        """The group's metadata as of now, for a transaction; None while the member has no generation, and may commit nothing.

        Who is thrown out of a classic group may have neither name nor generation some time before it is told of a loss, or may
        never be told; and a broker takes offsets that come with neither from anybody, as from clients before KIP-447.
        """
        try:
            metadata: bytes = self._consumer.consumer_group_metadata()
        except RuntimeError:  # not to be had: it is on its way out of the group
            return None
        return None if metadata.startswith(self._stranger) else metadata

    def look(self) -> bool:
        """Replace a consumer that does not find back to its group. Whether that was so: then nothing is owned any more.

        To be called every few seconds.
        """
        astray = self._statistics.astray
        if not self._belonging.look(bool(astray)):
            return False
        group = self._properties["group.id"]
        log.warning("the member of group %s does not find back to it: %s; a new one joins", group, astray)
        old, self._consumer = self._consumer, self._fresh()
        self._subscribed, self._statistics.astray = False, ""
        close_aside(old)
        return True

    def close(self) -> None:
        """Leave the group."""
        # A revocation within librdkafka's close() may find no protocol to answer by, and hang (its issue 4527): leave first.
        with suppress(KafkaException):
            self._consumer.unsubscribe()
            deadline = time.monotonic() + ANSWER
            while self._consumer.assignment() and time.monotonic() < deadline:
                self._consumer.poll(_SLICE)
        with suppress(KafkaException):
            self._consumer.close()

    def _assigned(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        if consumer is self._consumer:
            consumer.incremental_assign(partitions)
            consumer.pause(partitions)
            self._came([place.partition for place in partitions])

    def _revoked(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        self._gives_up(consumer, partitions, lost=False)

    def _lost(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        """The group has gone on without it. The next owner may have committed since: nothing is said of its partitions."""
        self._gives_up(consumer, partitions, lost=True)

    def _gives_up(self, consumer: Any, partitions: list[TopicPartition], *, lost: bool) -> None:
        if consumer is not self._consumer:  # replaced, and on its way out
            consumer.unassign()
            return
        self._goes([place.partition for place in partitions], None if lost else self.group())
        try:
            consumer.incremental_unassign(partitions)
        except KafkaException:  # the protocol was reset meanwhile, and without an answer librdkafka waits for ever
            consumer.unassign()

    def _fresh(self) -> Consumer:
        return Consumer(self._properties, logger=self._logger)


def _whole(told: Callable[[Any, list[TopicPartition]], None]) -> Callable[[Any, list[TopicPartition]], None]:
    """A callback whose errors keep their type.

    Before Python 3.12 confluent-kafka keeps only an error's value, which is bare text until Python code has caught it: `poll`
    and `close` then raise SystemError (`cfl_exception_fetch` in its confluent_kafka.h, 2.16).
    """

    def call(consumer: Any, partitions: list[TopicPartition]) -> None:
        try:
            told(consumer, partitions)
        except Exception:  # caught is all that it has to be
            raise

    return call
