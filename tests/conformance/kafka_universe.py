"""The real Kafka's way of doing what the laws ask: each session lives in a process of its own.

The one rule: death is SIGKILL and frozen is SIGSTOP. librdkafka sends heartbeats from threads of its own, so a session that is
only not polled is neither dead nor frozen.
"""

import itertools
import multiprocessing
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, Final

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, IsolationLevel, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from streams.kafka.session import KafkaSession
from streams.record import Headers, Output, Record
from streams.session import Inputs, Place, Polled, Session
from tests.conformance.universe import OpenTransaction
from tests.support.kafka import make_topics

_DEADLINE: Final = 60.0  # seconds: a frozen member is missed after 6, and the machine may be busy
_ANSWER: Final = 60.0
_SPAWN: Final = multiprocessing.get_context("spawn")
_LARGE: Final = {"message.max.bytes": str(4 * 1024 * 1024)}


def serve(connection: Connection, inputs: Inputs, group: str, transactional_id: str, properties: Mapping[str, str]) -> None:
    """Run one session in this process, call by call, until the other side hangs up."""
    try:
        session = KafkaSession(inputs, group=group, transactional_id=transactional_id, properties=properties)
    except Exception as error:  # whatever it is, the law is to see it
        connection.send((False, error))
        return
    connection.send((True, session.token))
    while True:
        try:
            name, arguments = connection.recv()
        except EOFError:
            session.close()
            return
        try:
            connection.send((True, getattr(session, name)(*arguments)))
        except Exception as error:  # as above
            connection.send((False, error))


class RemoteSession:
    """A session in another process."""

    def __init__(self, inputs: Inputs, group: str, transactional_id: str, properties: Mapping[str, str]) -> None:
        self._connection, other = _SPAWN.Pipe()
        self.process = _SPAWN.Process(
            target=serve, args=(other, inputs, group, transactional_id, dict(properties)), daemon=True
        )
        self.process.start()
        other.close()
        self.token: str = self._answer()

    def poll(self, limit: int, timeout: float) -> Polled:
        polled = self._call("poll", limit, timeout)
        assert isinstance(polled, Polled)
        return polled

    def commit(self, outputs: Sequence[Output], offsets: Mapping[Place, int], metadata: str = "") -> None:
        self._call("commit", list(outputs), dict(offsets), metadata)

    def pause(self, partitions: Iterable[int]) -> None:
        self._call("pause", list(partitions))

    def resume(self, partitions: Iterable[int]) -> None:
        self._call("resume", list(partitions))

    def close(self) -> None:
        self._call("close")

    def end(self) -> None:
        """Leave no process behind, whatever state it is in."""
        self.process.kill()
        self.process.join(10)
        self._connection.close()

    def _call(self, name: str, *arguments: object) -> Any:
        self._connection.send((name, arguments))
        return self._answer()

    def _answer(self) -> Any:
        assert self._connection.poll(_ANSWER), "the session does not answer"
        good, answer = self._connection.recv()
        if not good:
            raise answer
        return answer


class KafkaTransaction:
    """A transaction of some other client."""

    def __init__(self, bootstrap: str, outputs: Sequence[Output]) -> None:
        name = uuid.uuid4().hex
        self._producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": name, "log_level": 0, **_LARGE})
        self._producer.init_transactions(30)
        self._producer.begin_transaction()
        for output in outputs:
            _produce(self._producer, output)
        assert self._producer.flush(30) == 0

    def commit(self) -> None:
        self._producer.commit_transaction(30)

    def abort(self) -> None:
        self._producer.abort_transaction(30)


class KafkaUniverse:
    """A real broker under one group protocol."""

    def __init__(self, bootstrap: str, protocol: str) -> None:
        self.group = f"group-{uuid.uuid4().hex[:12]}"
        self._bootstrap = bootstrap
        client = {"bootstrap.servers": bootstrap, "log_level": "0", **_LARGE}
        self._properties = {**client, "group.protocol": protocol}
        if protocol == "classic":
            self._properties |= {"session.timeout.ms": "3000", "heartbeat.interval.ms": "500"}
        self._admin = AdminClient(client)
        self._producer = Producer({**client, "partitioner": "murmur2_random", "linger.ms": "0"})
        self._reader = Consumer(
            {
                **client,
                "group.id": self.group + "-reader",
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 20,
            }
        )
        self._sessions: list[RemoteSession] = []
        self._partitions: dict[str, int] = {}

    def topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> str:
        made = make_topics(self._bootstrap, {name: partitions}, config)[name]
        self._partitions[made] = partitions
        return made

    def produce(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = (), partition: int | None = None
    ) -> None:
        _produce(self._producer, Output(topic, key, value, headers, partition))
        assert self._producer.flush(30) == 0

    def transaction(self, outputs: Sequence[Output]) -> OpenTransaction:
        return KafkaTransaction(self._bootstrap, outputs)

    def open(self, inputs: Inputs, instance: str = "a") -> Session:
        session = RemoteSession(inputs, self.group, f"{self.group}.{instance}", self._properties)
        self._sessions.append(session)
        return session

    def kill(self, session: Session) -> None:
        assert isinstance(session, RemoteSession)
        session.end()

    def freeze(self, session: Session) -> None:
        assert isinstance(session, RemoteSession)
        os.kill(session.process.pid or 0, signal.SIGSTOP)

    def thaw(self, session: Session) -> None:
        assert isinstance(session, RemoteSession)
        os.kill(session.process.pid or 0, signal.SIGCONT)

    def read(self, topic: str) -> list[Record]:
        ends = self._ends(topic)
        self._reader.assign([TopicPartition(topic, partition, 0) for partition in ends])
        found: dict[int, list[Record]] = {partition: [] for partition in ends}
        unread = {partition for partition, end in ends.items() if end}
        deadline = time.monotonic() + _DEADLINE
        while unread:
            assert time.monotonic() < deadline, f"the end of {topic} stays undecided"
            message = self._reader.poll(1.0)
            if message is None:
                continue
            partition = message.partition()
            if message.error() is None:
                headers = tuple(message.headers() or ())
                place = (topic, partition, message.offset())
                found[partition].append(Record(*place, message.key(), message.value(), headers, message.timestamp()[1]))
            else:
                assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                if message.offset() >= ends[partition]:
                    unread.discard(partition)
        return list(itertools.chain.from_iterable(found.values()))

    def committed(self) -> dict[Place, int]:
        """Asks until no offset is undecided: a commit replies before its markers are written.

        It names each partition: asked for all, the broker leaves out a first offset that is undecided.
        """
        places = [TopicPartition(topic, partition) for topic, count in self._partitions.items() for partition in range(count)]
        request = ConsumerGroupTopicPartitions(self.group, places)
        deadline = time.monotonic() + _DEADLINE
        while True:
            assert time.monotonic() < deadline, "an offset stays undecided"
            answer = self._admin.list_consumer_group_offsets([request], require_stable=True)[self.group].result(30)
            if not any(at.error for at in answer.topic_partitions):
                return {(at.topic, at.partition): at.offset for at in answer.topic_partitions if at.offset >= 0}

    def _ends(self, topic: str) -> dict[int, int]:
        """The high watermarks: undecided records count, and a read waits for what becomes of them."""
        wanted = {TopicPartition(topic, partition): OffsetSpec.latest() for partition in range(self._partitions[topic])}
        answers = self._admin.list_offsets(wanted, isolation_level=IsolationLevel.READ_UNCOMMITTED)
        return {at.partition: answer.result(30).offset for at, answer in answers.items()}

    def wait(self, step: Callable[[], object], done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _DEADLINE
        while True:
            step()
            if done():
                return
            assert time.monotonic() < deadline, f"not within {_DEADLINE} seconds"

    def close(self) -> None:
        for session in self._sessions:
            session.end()
        self._reader.close()


def _produce(producer: Producer, output: Output) -> None:
    partition = -1 if output.partition is None else output.partition
    producer.produce(output.topic, output.value, output.key, partition, headers=list(output.headers))
