"""The codec: events from and to bytes in the Confluent wire format (a zero byte, four bytes of schema id, an Avro body).

The one rule: any bytes become an event or one `DecodeError`, in time and memory that the size of the bytes bounds.

The newest schema of a class has a compiled reader (`compiled`); older ones are skimmed, then resolved by fastavro.
"""

import io
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

import fastavro
import msgspec

from streams.compiled import compile_reader, compile_writer
from streams.contract import check_class, place_of
from streams.errors import DecodeError, EncodeError, SetupError
from streams.record import event_info
from streams.registry import Registry
from streams.schema import Release, subject_of
from streams.skim import fault_of, skim, width

HEAD: Final = 5  # bytes before the body
MAX_VALUES: Final = 1_000_000
"""How many values the arrays and maps of an older version's record may come to: they pass through dicts, which are large."""

E = TypeVar("E")


class Codec:
    """Readers and writers of some event classes, checked against the newest schemas of their topics.

    Raises `SetupError` for a class that does not follow its schema, has none, or shares its topic with another.
    """

    def __init__(self, events: Iterable[type], registry: Registry) -> None:
        self._registry = registry
        self._newest: dict[type, Release] = {}
        topics: dict[str, type] = {}
        for cls in dict.fromkeys(events):
            topic = event_info(cls).topic
            other = topics.setdefault(topic, cls)
            if other is not cls:
                what = f"{cls.__name__} and {other.__name__} share the topic {topic}"
                raise SetupError(what, where=place_of(cls), fix="give each event class a topic of its own")
            versions = registry.versions(subject_of(topic))
            if not versions:
                fix = f"add <group>/{cls.__name__}/v1.avsc and run `towpath schemas lock`"
                raise SetupError(f"no schema for the topic {topic} of {cls.__name__}", where=place_of(cls), fix=fix)
            check_class(cls, versions[-1])
            self._newest[cls] = versions[-1]

    def decoder(self, cls: type[E]) -> Callable[[bytes | None], E]:
        """A function from the value of a record to an event of this class; it raises `DecodeError` and nothing else."""
        newest = self._newest[cls]
        readers: dict[bytes, Callable[[bytes], E]] = {}
        for release in self._registry.versions(newest.schema.subject):
            if release.schema.fingerprint == newest.schema.fingerprint:
                readers[_head(release.id)] = compile_reader(cls, newest.schema.node, HEAD)
            else:
                readers[_head(release.id)] = _resolver(cls, release, newest)
        explain = self._explain

        def decode(data: bytes | None) -> E:
            try:
                return readers[data[:5]](data)  # type: ignore[index,arg-type]  # None fails here and is explained
            except Exception as error:
                raise explain(newest, data, error) from None

        return decode

    def encoder(self, cls: type[E]) -> Callable[[E], bytes]:
        """A function from an event of this class to the value of its record; it raises `EncodeError` and nothing else.

        A time is cut to whole milliseconds.
        """
        node = self._newest[cls].schema.node
        write = compile_writer(cls, node, _head(self._newest[cls].id))

        def encode(event: E) -> bytes:
            try:
                return write(event)
            except Exception as error:
                if type(event) is not cls:
                    raise EncodeError(f"an event {cls.__name__} is expected, not {type(event).__name__}") from None
                raise EncodeError(fault_of(node, event, cls.__name__) or f"{cls.__name__}: {error}") from None

        return encode

    def _explain(self, newest: Release, data: bytes | None, error: Exception) -> DecodeError:
        """What is wrong with bytes that are no event of the subject of `newest`."""
        if isinstance(error, DecodeError):
            return error
        try:
            release = release_of(data, self._registry)
            if release.schema.subject != newest.schema.subject:
                return DecodeError(f"bytes 1-4: schema {release.id} is {release.schema.record}, not {newest.schema.record}")
            skim(data or b"", HEAD, release.schema.node, len(data or b""))
        except DecodeError as found:
            return found
        return DecodeError(f"no {newest.schema.record}: {error}")


def release_of(data: bytes | None, registry: Registry) -> Release:
    """The schema that the value of a record names. Raises `DecodeError`."""
    if data is None:
        raise DecodeError("no value")
    if len(data) < HEAD or data[0] != 0:
        what = f"{len(data)} bytes" if len(data) < HEAD else f"byte 0 is {data[0]}, not 0"
        raise DecodeError(f"{what}: not in the Confluent wire format")
    schema_id = int.from_bytes(data[1:HEAD])
    release = registry.find(schema_id)
    if release is None:
        raise DecodeError(f"bytes 1-4: no schema has the id {schema_id}")
    return release


def decode_any(data: bytes | None, registry: Registry) -> tuple[Release, dict[str, Any]]:
    """Any record's value as its own schema says, for those who only look. Raises `DecodeError`. Slower than a `decoder`."""
    release = release_of(data, registry)
    body = data or b""
    skim(body, HEAD, release.schema.node, _max_items(release))
    parsed = fastavro.parse_schema(release.schema.raw, named_schemas={})
    value: dict[str, Any] = fastavro.schemaless_reader(io.BytesIO(body[HEAD:]), parsed, None)  # type: ignore[assignment]  # a record
    return release, value


def _head(schema_id: int) -> bytes:
    return b"\x00" + schema_id.to_bytes(4)


def _max_items(*releases: Release) -> int:
    return MAX_VALUES // max(1, *(width(release.schema.node) for release in releases))


def _resolver(cls: type[E], writer: Release, reader: Release) -> Callable[[bytes], E]:
    """A reader of an older version: what the newest has more gets its default, what it has less is dropped."""
    theirs = fastavro.parse_schema(writer.schema.raw, named_schemas={})
    ours = fastavro.parse_schema(reader.schema.raw, named_schemas={})
    max_items = _max_items(writer, reader)

    def read(data: bytes) -> E:
        skim(data, HEAD, writer.schema.node, max_items)
        return msgspec.convert(fastavro.schemaless_reader(io.BytesIO(data[HEAD:]), theirs, ours), cls)

    return read
