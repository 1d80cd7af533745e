"""The writing half of a Kafka session: one transactional producer.

The one rule: a producer goes on only from a commit that was answered. After any other end of a transaction with records a new
one of the same transactional id takes its place. Where a commit may have been asked for, the committed offsets tell its end.

An abort is no exception: librdkafka counts the records that it drops then as not sent. But some may have been sent, to a leader
that died before it answered. The next records get their sequence numbers, the new leader takes them for those, acknowledges
them, and writes nothing: a transaction that is committed, and lost (librdkafka 2.16, `rd_kafka_toppar_purge_queues`; ADR 8).
A new producer has an epoch of its own, and its numbers begin anew.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, Final, NoReturn

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from streams.errors import Aborted, Fenced, SetupError
from streams.record import Output

log = logging.getLogger("towpath.kafka")

COMMON: Final[Mapping[str, Any]] = {
    # "rebootstrap", the default, drops brokers that are away, and with them calls that wait for one: they never return.
    "metadata.recovery.strategy": "none",
    # A client that missed who leads a partition now asks again after so long. Five minutes is the default.
    "topic.metadata.refresh.interval.ms": 10000,
    # Who found a broker away knocks again after so long. Ten seconds is the default: longer than the others take to replace it.
    "reconnect.backoff.max.ms": 1000,
}
"""What every client of a session is told."""
DEFAULTS: Final[Mapping[str, Any]] = {
    **COMMON,
    "partitioner": "murmur2_random",  # the Java client's: producers in any language agree on a key's partition
    "transaction.timeout.ms": 15000,
    "linger.ms": 1,
    "retry.backoff.ms": 5,  # 100, the default, makes each of a row of transactions wait out CONCURRENT_TRANSACTIONS
    "queue.buffering.max.messages": 500000,
    "message.max.bytes": 4194304,  # a parked record is its source record with headers; topics.py lets these topics take 2 MiB
    "queue.buffering.max.kbytes": 1048576,
}
_CONSUMER: Final = frozenset({"group.protocol"})  # the one property of a consumer that a session is usually given
_STEP: Final = 1.0  # seconds that one call may block, so that a stop is noticed between two
_HUNG: Final = 5.0  # seconds after which a call that was to take one will not come back
_END: Final = 10.0  # seconds for the end of a transaction: a client may look for a coordinator in vain that a new one finds
_LONGER: Final = 3  # so many times as long at most for the producers after one that got no answer: brokers may be slow
_OPEN: Final = 15.0  # seconds for a producer to register, before a new one tries
_REST: Final = 60.0  # seconds until a producer that was replaced is destroyed
_AGAIN: Final = 0.1  # seconds until a new producer registers, after one that was fenced as it did
_OUSTED: Final = frozenset({KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH})
_SENDING: Final = frozenset({KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER})  # befalls records on their way, before any commit


class Undecided(Exception):
    """A commit was asked for, and whether it has happened is not known. As the writer opens again, it is decided."""


class Silent(Aborted):
    """The transaction did not happen, because a coordinator did not answer."""


class Writer:
    """One transactional producer. Its transactional id fences every older one of the same id as it opens.

    `logger` is for librdkafka's own lines. `opened`: the producer of now has registered.
    """

    def __init__(
        self, properties: Mapping[str, Any], transactional_id: str, logger: logging.Logger, outputs: Sequence[str] = ()
    ) -> None:
        mine = {name: value for name, value in properties.items() if name not in _CONSUMER}
        self._properties = {**DEFAULTS, **mine, "transactional.id": transactional_id}
        self._logger = logger
        self._producer = Producer(self._properties, logger=logger)
        self._outputs = outputs
        self.opened = False
        self._patience = 1  # times `_HUNG` and `_END`
        self._undecided = False  # a transaction has begun and neither end of it is known
        self._asked = False  # and its commit has been asked for
        self._waited = 0.0  # seconds of the transaction at work in which brokers gave no answer
        self._rivals = 0.0  # until when a producer that was given up as it registered may still do so, and fence its successor
        self.stopping = False

    def write(self, outputs: Sequence[Output], offsets: Sequence[TopicPartition] = (), group: Any = None) -> None:
        """One transaction of outputs, and of offsets if it has a source. Raises `Aborted`, `Undecided` or `Fenced`."""
        try:
            self.open()
            self._begin()
            # The coordinators answer while the outputs are handed over: else that is a tenth of a stage's time.
            sent = self._send_offsets(offsets, group) if offsets else None
            try:
                self._produce(outputs)
            finally:
                if sent is not None:
                    self._until_done(sent)
            self._asked = True
            self._until_done(self._producer.commit_transaction, patience=_END * self._patience)
            self._undecided, self._patience = False, 1
        except KafkaException as error:
            self._undo(error)
        except TimeoutError:
            self._patience = min(self._patience * 2, _LONGER)
            self._give_up("the coordinator does not answer", self._asked, Silent)

    def rehearse(self, offsets: Sequence[TopicPartition], group: Any) -> None:
        """A transaction that is given up: it finds the coordinators and connects, so that no record has to wait for that.

        Raises `Aborted` if it does not come to its end, or `Fenced`.
        """
        try:
            self._begin()
            self._until_done(self._send_offsets(offsets, group))
            self._until_done(self._producer.abort_transaction, patience=_END * self._patience)
            self._undecided = False
        except KafkaException as error:
            self._undo(error)
        except TimeoutError:
            self._give_up("the coordinator does not answer", False, Silent)

    def serve(self) -> None:
        """Be open, and take the statistics that there are: who is idle would keep them all."""
        self.open()
        with suppress(KafkaException):  # one beyond repair says so here too: the next transaction meets that, and judges it
            self._producer.poll(0)

    def open(self) -> None:
        """Register with the coordinator; this ends whatever a predecessor left open. Waits for the broker.

        Raises `SetupError` where the cluster refuses, and `Fenced` when told to stop.
        """
        while not self.opened:
            try:
                self._until_done(self._producer.init_transactions, patience=_OPEN)
            except TimeoutError:  # the broker is away, or this client does not find it again: a new one does
                log.warning("a producer could not register in %.0f s: a new one tries", _OPEN)
                self._rivals = time.monotonic() + 2 * _REST  # its last request may be answered after it is destroyed
                self._replace()
            except KafkaException as error:
                self._must_be_ousted(error)
                log.warning("a producer was fenced as it registered: a new one tries")
                self._replace()
                self.check_stopping()
                time.sleep(_AGAIN)
            else:
                self.opened = True
                for topic in self._outputs:  # else the first record to each waits 100 ms and more until librdkafka has asked
                    with suppress(KafkaException):  # then it asks when there is a record
                        self._producer.list_topics(topic, _STEP)

    def close(self) -> None:
        """Let go of the producer; an open transaction is left to its timeout or to the next of the same id."""
        with suppress(KafkaException):  # a fenced producer says once more that it is fenced
            self._producer.purge()
            if not self._undecided:  # else it would abort, and wait for a broker that is away: for ever, and nobody else runs
                self._producer.close()

    def _must_be_ousted(self, error: KafkaException) -> None:
        """Raise `SetupError` for what a new producer does not mend as it registers.

        It mends that another registered at the same moment, or the coordinator ended the predecessor's transaction just then:
        who registers has nothing under way to lose. Of two processes with one id, the last to register goes on.
        """
        cause = error.args[0]
        if cause.code() not in _OUSTED:
            raise SetupError(
                f"the cluster refuses a producer: {cause.str()}",
                where=f"transactional id {self._properties['transactional.id']}",
                fix="it needs the right to write with this id, and a transaction.timeout.ms that the brokers allow",
            ) from error

    def _replace(self, rest: float = _REST) -> None:
        """Go on with a new producer: as it opens it aborts what the old one has begun, and fences it."""
        threading.Thread(target=_bury, args=(self._producer, rest), name="towpath-bury", daemon=True).start()
        self._producer = Producer(self._properties, logger=self._logger)
        self.opened = self._undecided = self._asked = False

    def _begin(self) -> None:
        self._undecided, self._asked, self._waited = True, False, 0.0
        self._producer.begin_transaction()

    def _produce(self, outputs: Sequence[Output]) -> None:
        produce = self._producer.produce
        for output in outputs:
            partition = -1 if output.partition is None else output.partition
            while True:
                try:
                    produce(output.topic, output.value, output.key, partition, headers=list(output.headers))
                    break
                except BufferError:  # the queue is full of this transaction's own records: let some of them go out
                    self._producer.poll(0.05)

    def _undo(self, error: KafkaException) -> NoReturn:
        """End a transaction that came to nothing, and the producer with it."""
        cause = error.args[0]
        asked = self._asked and cause.code() not in _SENDING
        if cause.code() in _OUSTED and not self._by_itself():
            raise Fenced(f"another producer has this one's transactional id: {cause.str()}") from error
        if cause.fatal():
            self._give_up(cause.str(), asked)
        try:
            self._until_done(self._producer.abort_transaction, patience=_END * self._patience)
        except TimeoutError:
            self._give_up(cause.str(), False, Silent)  # librdkafka asks for an abort only of what is not committed
        except KafkaException as failed:
            if failed.args[0].code() in _OUSTED and not self._by_itself():
                raise Fenced(f"another producer has this one's transactional id: {failed.args[0].str()}") from error
            self._give_up(cause.str(), asked)
        self._replace(rest=0.0)
        raise Aborted(cause.str()) from error

    def _by_itself(self) -> bool:
        """Whether this writer may have been fenced by nobody else.

        By a producer of its own that registered late, or by the coordinator, which ends a transaction past its timeout. What
        counts for that is time spent on brokers that gave no answer: a process that slept through the timeout may have got a
        successor, and makes way for it.
        """
        timeout = float(self._properties["transaction.timeout.ms"]) / 1000  # text, where it is from TOWPATH_KAFKA
        overdue = self._waited >= timeout - _STEP
        return overdue or time.monotonic() < self._rivals

    def _give_up(self, why: str, asked: bool, aborted: type[Aborted] = Aborted) -> NoReturn:
        """Leave a transaction to a new producer: nothing of it has happened, unless its commit was asked for."""
        self._replace()
        if asked:
            raise Undecided(f"{why}; a new producer goes on")
        raise aborted(f"{why}; a new producer goes on")

    def _until_done(self, call: Callable[..., None], *arguments: Any, patience: float = math.inf) -> None:
        """Repeat a call for as long as librdkafka says that it may be repeated; past `patience`, raise `TimeoutError`."""
        deadline = time.monotonic() + patience
        while True:
            try:
                return call(*arguments, _STEP)
            except KafkaException as error:
                if not error.args[0].retriable():
                    raise
                self._waited += _STEP
                if time.monotonic() > deadline:
                    raise TimeoutError from error
                self.check_stopping()

    def check_stopping(self) -> None:
        """Raise `Fenced` if the session is told to stop."""
        if self.stopping:
            raise Fenced("told to stop while the broker was away; the next start goes by what was committed")

    def _send_offsets(self, offsets: Sequence[TopicPartition], group: Any) -> Callable[[float], None]:
        """Begin to send offsets. What is returned waits for the answer; called again, it sends them again.

        The wait raises `TimeoutError` for a call that does not come back; its thread waits on. Such a call ignores its timeout
        when the group's coordinator dies under it: it waits for that broker to be up again, whoever is the coordinator
        meanwhile (librdkafka's issues 5456 and 5511). No commit was asked for: nothing is undecided.
        """
        send = partial(_aside, self._producer.send_offsets_to_transaction, list(offsets), group, _STEP)
        begun = [send()]
        return lambda _: self._answer(begun.pop() if begun else send())

    def _answer(self, call: Future[None]) -> None:
        deadline = time.monotonic() + _HUNG * self._patience
        while (left := deadline - time.monotonic()) > 0:
            with suppress(TimeoutError):
                return call.result(min(left, _STEP))
            self._waited += _STEP
            self.check_stopping()
        raise TimeoutError


def _aside(call: Callable[..., None], *arguments: Any) -> Future[None]:
    """Make a call on a thread of its own."""
    answer: Future[None] = Future()

    def work() -> None:
        try:
            call(*arguments)
            answer.set_result(None)
        except BaseException as error:  # handed to whoever waits
            answer.set_exception(error)

    threading.Thread(target=work, name="towpath-offsets", daemon=True).start()
    return answer


def _bury(producer: Producer, rest: float) -> None:
    """Hold on to a producer until nobody else does: its end may wait for a broker that is away, and should do so here."""
    with suppress(KafkaException):
        producer.purge()
    time.sleep(rest)
