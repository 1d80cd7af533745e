"""The follower of a Kafka session: a consumer that reads what it is told to, and is no member of any group.

The one rule: nothing is read twice or left out, whatever becomes of the consumer: where it goes on is what has been handed out.

What must not be read now is taken out of the consumer's assignment. librdkafka's pause and resume are not used for that: next
to a change of the assignment it may drop a resume without a word, and then the partition is silent for ever (its issues 2190
and 5591). What is to be read again, or from somewhere else, is read by a new consumer: one that has read a partition before
keeps what it knew of it, and after the death of the partition's leader may be silent, or go on where it was.
"""

import logging
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from streams.kafka.cluster import close_aside
from streams.kafka.deaf import Hearing
from streams.session import Place

log = logging.getLogger("towpath.kafka")


class Follower:
    """A consumer with `properties`, librdkafka's; `admin` are those of clients that ask the cluster.

    `logger` is for librdkafka's own lines. `at` has the offset behind what has been handed out of each place; who sorts the
    messages moves it on. The consumer is not asked: one whose fetching hangs says where it was before it was sent back.
    """

    def __init__(self, properties: Mapping[str, Any], admin: Mapping[str, Any], logger: logging.Logger) -> None:
        self.at: dict[Place, int] = {}
        self._properties = dict(properties)
        self._logger = logger
        self._consumer = Consumer(self._properties, logger=logger)
        self._hearing = Hearing(admin, logger)
        self._reading: set[Place] = set()
        self._known: set[Place] = set()  # to this consumer, by now or before
        self._idle = False  # there was no more to give, at least once since the last look

    def consume(self, limit: int, seconds: float) -> list[Message]:
        """What there is, up to `limit` messages, ends of partitions and errors among them. Waits for the first."""
        if not self._reading:  # then there is nothing to wait for; it serves the statistics
            self._consumer.poll(seconds)
            return []
        messages: list[Message] = self._consumer.consume(1, seconds)
        if messages and limit > 1:
            messages += self._consumer.consume(limit - 1, 0)
        self._idle = self._idle or len(messages) < limit
        return messages

    def read(self, places: Iterable[Place]) -> None:
        """Read these from `at` on."""
        new = set(places) - self._reading
        self._reading |= new
        if new & self._known:
            self.renew()
        elif new:
            self._assign(new)

    def leave_off(self, places: Iterable[Place]) -> None:
        """Stop reading these, as far as they are read. What has been fetched of them is dropped."""
        if old := self._reading.intersection(places):
            self._consumer.incremental_unassign([TopicPartition(*place) for place in old])
            self._reading -= old

    def renew(self) -> None:
        """Go on with a new consumer, from `at` on."""
        close_aside(self._consumer)
        self._consumer = Consumer(self._properties, logger=self._logger)
        self._known = set()
        self._assign(self._reading)

    def look(self) -> None:
        """Replace a consumer that does not come to itself. To be called every few seconds."""
        deaf = self._hearing.look({place: self.at[place] for place in self._reading}, idle=self._idle)
        self._idle = False
        if deaf:
            names = ", ".join(f"{topic}[{partition}]" for topic, partition in sorted(deaf))
            log.warning("nothing comes of %s, though there is more: a new consumer goes on", names)
            self.renew()

    def close(self) -> None:
        """Let go of the consumer."""
        with suppress(KafkaException):
            self._consumer.close()

    def _assign(self, places: Collection[Place]) -> None:
        self._known.update(places)
        self._consumer.incremental_assign([TopicPartition(*place, self.at[place]) for place in places])
