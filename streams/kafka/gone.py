"""Whether records are gone that a broker says it does not have.

The one rule: who says so may be wrong. A broker that is cut off, or has just come back, may still take itself for the leader of
a partition, and not have what its successor has taken since. So the cluster is asked where the partition begins and ends.
"""

import logging
import time
from collections.abc import Mapping
from typing import Any, Final

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from streams.errors import SetupError
from streams.kafka.cluster import offsets
from streams.session import Place

_SURE: Final = 30.0  # seconds until an end before the offset that is to be read is believed: who tells it may be behind

log = logging.getLogger("towpath.kafka")


class Doubts:
    """Where brokers say that they do not have what is to be read, and since when.

    `properties` are librdkafka's, of an admin client; `logger` is for its own lines.
    """

    def __init__(self, properties: Mapping[str, Any], logger: logging.Logger) -> None:
        self._properties = dict(properties)
        self._logger = logger
        self._since: dict[tuple[Place, int], float] = {}

    def judge(self, doubted: Mapping[Place, int]) -> None:
        """Ask about these places, and the offset that is to be read next in each. Raises `SetupError` if it is gone."""
        now = time.monotonic()
        self._since = {each: self._since.get(each, now) for each in doubted.items()}
        asked = [TopicPartition(*place) for place in doubted]
        try:
            admin = AdminClient(self._properties, logger=self._logger)
            begins, ends = offsets(admin, (asked, OffsetSpec.earliest()), (asked, OffsetSpec.latest()))
        except KafkaException:  # nobody knows: ask again
            return
        for place, at in doubted.items():
            topic, partition = place
            if begins[place] > at:
                raise SetupError(
                    f"records that were not read yet are gone: it begins at {begins[place]}, and {at} is to be read",
                    where=f"{topic}[{partition}]",
                    fix="retention removed them: reset the group's offset on purpose, after a look at what is lost",
                )
            if ends[place] < at and now - self._since[place, at] > _SURE:
                raise SetupError(
                    f"records that were read are gone: it ends at {ends[place]}, and {at} is to be read",
                    where=f"{topic}[{partition}]",
                    fix="the topic was made anew, or was led by a broker that had not everything: reset the group's offset on "
                    "purpose, after a look at what is lost",
                )
            log.warning("%s[%d]: a broker says that it does not have offset %d: it is read again", topic, partition, at)
