"""A session on a real Kafka, by librdkafka.

The one rule: every transaction carries the group's metadata as it was at the last poll, so that a member which has lost its
place can commit nothing, whatever it still holds in its hands.
"""

import logging
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, Final

from confluent_kafka import KafkaException, TopicPartition

from streams.errors import Aborted, Fenced, SetupError
from streams.kafka.reader import Reader
from streams.kafka.stats import Statistics
from streams.kafka.writer import Undecided, Writer
from streams.record import Output
from streams.session import Inputs, Place, Polled, happened, signed

_PAUSE: Final = 0.01  # seconds, doubled with each transaction in a row that did not happen
_LONGEST: Final = 1.0
_EVERY: Final = 30.0  # seconds in which the same complaint is made once
_DONE_AGAIN: Final = frozenset({"TXNERR", "ADDOFFSETS", "ADDPARTS"})  # rdkafka_txnmgr.c's words for what it could not do


class OncePerWhile(logging.Filter):
    """Lets each kind of librdkafka's complaints through once in a while, and says how many it has kept back.

    librdkafka writes a line for every attempt to reach a broker that is away: thousands in an hour. A transaction that came to
    nothing, as in any rebalance, is an error to it and none to us, and so is a part of one that it asks for again: the engine
    says that it is done again, or why the stage ends.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}
        self._kept: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this line is written. Its kind is librdkafka's word for it (`FAIL`, `REQTMOUT`, …), its first."""
        text = record.getMessage()
        kind = text.partition(" ")[0]
        if kind in _DONE_AGAIN and record.levelno == logging.ERROR:  # a fatal one is CRITICAL
            record.levelno, record.levelname = logging.INFO, "INFO"
        if record.created - self._last.get(kind, float("-inf")) < _EVERY:
            self._kept[kind] = self._kept.get(kind, 0) + 1
            return False
        self._last[kind] = record.created
        if kept := self._kept.pop(kind, 0):
            record.msg, record.args = f"{text} ({kept} more like this)", ()
        return True


log = logging.getLogger("towpath.kafka")
_librdkafka: Final = logging.getLogger("towpath.librdkafka")
_librdkafka.addFilter(OncePerWhile())


class KafkaSession:
    """One member of a stage's group with one transactional producer; see `streams.session.Session`.

    `properties` are librdkafka's, `bootstrap.servers` among them. Sources: KIP-98 (transactions), KIP-447 (fencing by the
    group's generation), KIP-848 (the consumer protocol; `group.protocol=classic` is served as well). `outputs` are the topics
    that it is going to write to: they are looked up as it opens, so that the first transaction need not wait for that.
    """

    def __init__(
        self,
        inputs: Inputs,
        *,
        group: str,
        transactional_id: str,
        properties: Mapping[str, Any],
        outputs: Sequence[str] = (),
    ) -> None:
        self.token = uuid.uuid4().hex
        self.statistics = Statistics()
        try:
            sending = {**self.statistics.properties("producer"), **properties}
            self._writer = Writer(sending, transactional_id, _librdkafka, outputs)
            self._reader = Reader(inputs, properties, group, _librdkafka, self._let_go, self.statistics)
        except KafkaException as error:
            raise SetupError(error.args[0].str(), where="TOWPATH_KAFKA", fix="see librdkafka's CONFIGURATION.md") from None
        self._lead = inputs.lead
        self._marked: set[int] = set()  # partitions whose commit metadata this session has written
        self._commits = 0
        self._aborts = 0  # in a row
        self._rehearsed = False
        self._closed = False

    def poll(self, limit: int, timeout: float) -> Polled:
        """Read on; see `Session.poll`. The first call waits for the broker."""
        self._writer.serve()
        polled = self._reader.poll(limit, timeout)
        if polled.gained and self._reader.group is not None and not self._rehearsed:
            self._rehearsed = True
            places = [TopicPartition(self._lead, claim.partition, claim.offsets[self._lead]) for claim in polled.gained]
            try:
                self._writer.rehearse(places, self._reader.group)
            except Aborted as aborted:  # nobody answered, or a rebalance has begun: the partitions may be another's by now
                log.info("a rehearsal was given up: %s", aborted)
                self._find()
        return polled

    def commit(self, outputs: Sequence[Output], offsets: Mapping[Place, int], metadata: str = "") -> None:
        """One transaction; see `Session.commit`."""
        # Without offsets librdkafka asks no broker about the generation: a position that stays put goes with such a commit.
        sources = offsets or {place: offset for place, (offset, _) in islice(self._reader.stood.items(), 1)}
        if not sources:
            raise Aborted("the session owns no partition")
        self._commits += 1
        said = signed(metadata, f"{self.token[:8]}.{self._commits}")
        places = [TopicPartition(topic, partition, offset, said) for (topic, partition), offset in sources.items()]
        try:
            if self._reader.group is None:
                raise Aborted("the member has no place in its group")
            self._writer.write(outputs, places, self._reader.group)
        except Undecided as undecided:
            self._settle(sources, said, str(undecided))
        except Aborted:
            self._reader.rewind()
            self._find()
            self._aborts += 1  # who is out of the group may hear of it later than its coordinator: do not run against that
            time.sleep(min(_PAUSE * 2**self._aborts, _LONGEST))
            raise
        self._aborts = 0
        self._reader.advance(sources, said)
        if metadata:
            self._marked.update(partition for topic, partition in offsets if topic == self._lead)

    def _find(self) -> None:
        """Wait until the group's coordinator answers, as long as one question may take, before a new producer asks for it.

        A producer asks three times within 15 ms (librdkafka gives the question two retries, `retry.backoff.ms` apart), then not
        again until a connection comes or goes. One that asks while nobody is elected would hang like the one before it.
        """
        if not self._writer.opened:
            self._writer.open()  # ends the transaction that was left: until then no offset is stable
            self._reader.stands(dict(islice(self._reader.stood.items(), 1)))

    def _settle(self, offsets: Mapping[Place, int], said: str, why: str) -> None:
        """Find out what became of a transaction that a new producer decides: the group's offsets and their signature say it."""
        self._writer.open()
        wanted = {place: (offset, said) for place, offset in offsets.items()}
        before = {place: self._reader.stood[place] for place in offsets}
        while (now := self._reader.stands(before)) is None:
            self._writer.check_stopping()
        done = happened(before, wanted, now)
        if done:
            log.warning("a commit without an answer has happened: %s", why)
            return
        self._reader.rewind()
        if done is None:
            self.token = uuid.uuid4().hex
        raise Aborted(why if done is not None else f"{why}; meanwhile its partitions have got another owner")

    def pause(self, partitions: Iterable[int]) -> None:
        """See `Session.pause`."""
        self._reader.pause(partitions, True)

    def resume(self, partitions: Iterable[int]) -> None:
        """See `Session.resume`."""
        self._reader.pause(partitions, False)

    def waits(self) -> str:
        """Why not all that is assigned is read yet, "" if it is. Any thread may ask."""
        return self._reader.waits()

    def stop(self) -> None:
        """Give up waiting for a broker that is away. Another thread may call it."""
        self._writer.stopping = True

    def close(self) -> None:
        """See `Session.close`."""
        if not self._closed:
            self._closed = True
            self.stop()
            self._reader.close()
            self._writer.close()

    def _let_go(self, partitions: Mapping[int, int], group: Any) -> None:
        """Leave in good order: clear the commit metadata of partitions on their way to another owner.

        Without the group's metadata they are another's already: a commit would take its offsets back, or wait to be refused.
        """
        marked = {partition: offset for partition, offset in partitions.items() if partition in self._marked}
        self._marked -= partitions.keys()
        if marked and group is not None:
            places = [TopicPartition(self._lead, partition, offset) for partition, offset in marked.items()]
            with suppress(Aborted, Undecided, Fenced):  # then the next owner takes it for a death, and is careful for nothing
                self._writer.write([], places, group)
