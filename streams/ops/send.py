"""Publishing a file of events: one JSON object a line, each checked before it goes.

The one rule: what goes out is a sound event, once; what does not go is reported with its line's number.
"""

import gzip
import io
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any, Final, cast

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from streams import topics
from streams.codec import Codec
from streams.config import Settings
from streams.errors import EncodeError, SetupError
from streams.logs import masking
from streams.record import event_info
from streams.registry import FolderRegistry
from streams.topology import Topology
from streams.trace import Span
from streams.tracing import Beginnings, Tracing
from streams.version import code_version

Complain = Callable[[int, str], None]
"""Told of a line that did not go: its number, from 1, and why."""

_GZIP: Final = b"\x1f\x8b"
LONGEST: Final = 16 << 20
"""Bytes of a line: far more than a topic takes. A packed file of a megabyte may hold a line of a gigabyte."""


class Sent(msgspec.Struct):
    """What became of a file: lines published and acknowledged, lines that were not, and the seconds it took."""

    topic: str
    sent: int = 0
    bad: int = 0
    seconds: float = 0.0


class Sender:
    """An idempotent producer of one class of events, with acknowledgement by all replicas.

    Raises `SetupError` for a cluster that does not answer and a topic that does not exist.
    """

    def __init__(self, settings: Settings, topology: Topology, event: type, complain: Complain) -> None:
        info = event_info(event)
        topics.partition_counts(topics.connect(settings), [info.topic])
        self.result = Sent(info.topic)
        self._event = event
        self._key = info.key
        self._encode: Callable[[Any], bytes] = Codec([event], FolderRegistry(topology.schemas)).encoder(event)
        self._complain = complain
        self._traces: Beginnings | None = None
        if (tracing := Tracing.load(mask=masking(settings))) is not None:
            version = code_version(settings, topology.where)
            self._traces = Beginnings(tracing, info.topic, f"{topology.name}.send", version)
        wanted = topics.properties(
            settings, {"enable.idempotence": True, "acks": "all", "partitioner": "murmur2_random", "linger.ms": 2}
        )
        try:
            self._producer = Producer(wanted, logger=topics.QUIET)
        except KafkaException as error:
            raise topics.refused(error) from None

    def send(self, lines: Iterable[bytes], *, rate: float | None = None, seen: Callable[[int], None] = lambda _: None) -> Sent:
        """Publish the lines and wait until the last one is acknowledged. Empty lines are passed over.

        With a `rate` (lines per second) line n goes at n/rate seconds after the start, whatever the cluster does; a sender
        that falls behind catches up. `seen` is called with the number of lines read so far.
        """
        start = time.monotonic()
        try:
            for count, (number, line) in enumerate((n, text) for n, text in enumerate(lines, 1) if text.strip()):
                if rate:
                    self._wait_until(start + count / rate)
                self._take(number, line)
                seen(number)
            while self._producer.flush(1.0):
                pass
        finally:
            self.result.seconds = time.monotonic() - start
            if self._traces is not None:
                self._traces.close()
        return self.result

    def _wait_until(self, due: float) -> None:
        while (wait := due - time.monotonic()) > 0:
            self._producer.poll(wait)  # acknowledgements come in meanwhile

    def _take(self, number: int, line: bytes) -> None:
        if len(line) >= LONGEST:
            self._refuse(number, f"longer than {LONGEST:,} bytes")
            return
        try:
            event = check(line, self._event)
            value = self._encode(event)
        except (msgspec.MsgspecError, EncodeError, UnicodeDecodeError, RecursionError) as error:
            self._refuse(number, str(error))
            return
        key = str(getattr(event, self._key))
        begun, span = self._traces.begin(key) if self._traces is not None else (None, None)
        headers = [begun] if begun is not None else []
        told = partial(self._delivered, number, span)
        while True:
            try:
                self._producer.produce(self.result.topic, value, key.encode(), headers=headers, on_delivery=told)
            except BufferError:  # the queue is full: the cluster is slower than we
                self._producer.poll(0.1)
            except KafkaException as error:  # too large for the client
                self._refuse(number, error.args[0].str())
                return
            else:
                self._producer.poll(0)
                return

    def _delivered(self, number: int, span: Span | None, error: KafkaError | None, _: Message) -> None:
        if span is not None and self._traces is not None:
            self._traces.sent(span, error.str() if error else None)
        if error:
            self._refuse(number, error.str())
        else:
            self.result.sent += 1

    def _refuse(self, number: int, why: str) -> None:
        self.result.bad += 1
        self._complain(number, why)


def check(line: bytes, event: type) -> Any:
    """The event that a line of JSON holds. Raises `msgspec.ValidationError` for a wrong, missing or unknown field.

    A field that the class does not have would be lost on the way: that is an error in a file that is to be published.
    """
    found: Any = msgspec.json.decode(line, type=event)
    unknown = next(_unknown(msgspec.json.decode(line), found, ""), None)
    if unknown:
        raise msgspec.ValidationError(f"{event.__name__} has no field `{unknown}`")
    return found


def _unknown(raw: Any, known: Any, path: str) -> Iterator[str]:
    """The paths of what is in `raw`, as JSON has it, and has no place in `known`, as its class has it."""
    if isinstance(raw, dict):
        fields = _fields(known)
        for name, value in raw.items():
            if name in fields:
                yield from _unknown(value, fields[name], f"{path}{name}.")
            else:
                yield path + name
    elif isinstance(raw, list):
        for index, (value, other) in enumerate(zip(raw, known, strict=True)):
            yield from _unknown(value, other, f"{path.removesuffix('.')}[{index}].")


def _fields(known: Any) -> Mapping[str, Any]:
    if isinstance(known, msgspec.Struct):
        return {
            name: getattr(known, field)
            for name, field in zip(known.__struct_encode_fields__, known.__struct_fields__, strict=True)
        }
    return cast("Mapping[str, Any]", known)


def lines(file: str, stdin: IO[bytes]) -> Iterator[bytes]:
    """The lines of a file, or of `stdin` for `-`, unpacked if gzipped. Raises `SetupError` where they cannot be read.

    Of a line that is too long come its first `LONGEST` bytes; the rest of it is passed over.
    """
    try:
        with stdin if file == "-" else Path(file).open("rb") as raw:
            buffered = io.BufferedReader(cast("io.RawIOBase", raw), 1 << 16)
            packed = buffered.peek(2).startswith(_GZIP)
            source: io.BufferedIOBase = gzip.GzipFile(fileobj=buffered) if packed else buffered
            while line := source.readline(LONGEST):
                yield line
                while len(line) == LONGEST and not line.endswith(b"\n"):
                    line = source.readline(LONGEST)
    except (OSError, EOFError, zlib.error) as error:
        what = getattr(error, "strerror", None) or str(error)
        raise SetupError(f"cannot be read: {what}", where=file, fix="name a file of JSON lines, plain or gzipped") from None
