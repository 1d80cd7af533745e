"""Laws of the codec, for every event of the order flow and for one event that holds every kind of value."""

import io
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import fastavro
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.codec import HEAD, Codec, decode_any, release_of
from streams.errors import DecodeError
from streams.registry import FolderRegistry, Registry
from streams.skim import skim
from tests.property.contracts import EVERYTHING, ORDER_EVENTS, Everything, events, released

CLASSES = [*ORDER_EVENTS, Everything]
relaxed = settings(deadline=None, max_examples=50)  # two cores are shared with real brokers


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return released(tmp_path_factory.mktemp("kinds"), EVERYTHING)


@pytest.fixture(params=CLASSES, ids=lambda cls: cls.__name__, scope="module")
def case(request: pytest.FixtureRequest, kinds: Registry) -> tuple[type, Codec, Registry]:
    registry = kinds if request.param is Everything else FolderRegistry()
    return request.param, Codec([request.param], registry), registry


def plain(value: Any) -> Any:
    """An event as fastavro takes it; a tuple would say to it which branch of a union is meant."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return plain(msgspec.to_builtins(value, builtin_types=(bytes, datetime))) if isinstance(value, msgspec.Struct) else value


@relaxed
@given(data=st.data())
def test_what_is_encoded_is_decoded(case: tuple[type, Codec, Registry], data: st.DataObject) -> None:
    cls, codec, _ = case
    event = data.draw(events(cls))
    assert codec.decoder(cls)(codec.encoder(cls)(event)) == event


@relaxed
@given(data=st.data())
def test_fastavro_writes_and_reads_the_same(case: tuple[type, Codec, Registry], data: st.DataObject) -> None:
    cls, codec, registry = case
    event = data.draw(events(cls))
    encoded = codec.encoder(cls)(event)
    schema = fastavro.parse_schema(release_of(encoded, registry).schema.raw, named_schemas={})
    theirs = io.BytesIO()
    fastavro.schemaless_writer(theirs, schema, plain(event))
    assert encoded[HEAD:] == theirs.getvalue()
    assert msgspec.convert(decode_any(encoded, registry)[1], cls) == event


def mutated(body: bytes, at: int, cut: int, put: bytes) -> bytes:
    at %= len(body) + 1
    return body[:at] + put + body[at + cut :]


HOSTILE = st.sampled_from([b"", b"\x00", b"\x01", b"\x03", b"\xff", b"\x80" * 11, b"\xff" * 9 + b"\x01", b"\xfe" + b"\xff" * 9])


@relaxed
@given(data=st.data())
def test_any_body_is_decoded_or_refused_as_the_skim_says(case: tuple[type, Codec, Registry], data: st.DataObject) -> None:
    cls, codec, registry = case
    valid = codec.encoder(cls)(data.draw(events(cls)))
    change = st.builds(mutated, st.just(valid[HEAD:]), st.integers(0, 200), st.integers(0, 3), HOSTILE | st.binary(max_size=4))
    body = data.draw(change | st.binary(max_size=60))
    value = valid[:HEAD] + body
    refusal = refused(lambda: skim(value, HEAD, release_of(value, registry).schema.node, len(value)))
    assert refused(lambda: codec.decoder(cls)(value)) == refusal


def refused(read: Callable[[], object]) -> str | None:
    try:
        read()
    except DecodeError as error:
        return str(error)
    return None


@relaxed
@given(value=st.none() | st.binary(max_size=40))
def test_any_bytes_are_an_event_or_a_decode_error(case: tuple[type, Codec, Registry], value: bytes | None) -> None:
    cls, codec, _ = case
    refusal = refused(lambda: codec.decoder(cls)(value))
    assert refusal != ""


def test_every_event_of_the_flow_is_here() -> None:
    folder = Path(__file__).parents[2] / "schemas" / "orders"
    assert {cls.__name__ for cls in ORDER_EVENTS} == {path.name for path in folder.iterdir()}
