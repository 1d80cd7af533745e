"""Where a record stands in a trace, and what is written of it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.semconv._incubating.attributes import (
    db_attributes,
    error_attributes,
    http_attributes,
    messaging_attributes,
    server_attributes,
    service_attributes,
    url_attributes,
)

from streams import otlp, semconv, zipkin
from streams.otlp import Source
from streams.trace import CONSUMER, Place, Sampler, Shape, Span, begun_by, incoming, parse, write

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SOUND = f"00-{TRACE}-{SPAN}-01".encode()


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (SOUND, Place(TRACE, SPAN, 1)),
        (f"00-{TRACE}-{SPAN}-00".encode(), Place(TRACE, SPAN, 0)),
        (f"00-{TRACE}-{SPAN}-ff".encode(), Place(TRACE, SPAN, 3)),  # of the flags the two that are known
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like".encode(), Place(TRACE, SPAN, 1)),
        (f"00-{TRACE}-{SPAN}-01-more".encode(), None),
        (f"cc-{TRACE}-{SPAN}-01.more".encode(), None),
        (f"ff-{TRACE}-{SPAN}-01".encode(), None),
        (f"00-{TRACE.upper()}-{SPAN}-01".encode(), None),
        (f"00-{'0' * 32}-{SPAN}-01".encode(), None),
        (f"00-{TRACE}-{'0' * 16}-01".encode(), None),
        (f"00-{TRACE}-{SPAN}-1".encode(), None),
        (b" " + SOUND, None),
        (SOUND + b"\n", None),
        (b"", None),
        (None, None),
    ],
)
def test_a_traceparent_is_read_as_w3c_has_it(said: bytes | None, found: Place | None) -> None:
    assert parse(said) == found
    assert found is None or parse(write(found)) == found


def test_two_traceparents_are_none() -> None:
    assert incoming([("traceparent", SOUND)]) == Place(TRACE, SPAN, 1)
    assert incoming([("traceparent", SOUND), ("x", b""), ("traceparent", SOUND)]) is None


def test_a_share_of_the_traces_is_kept_and_of_others_what_they_say() -> None:
    some = Sampler.of(0.01)
    kept = sum(some.keeps(begun_by(f"event-{number}")) for number in range(20_000))
    assert 140 < kept < 260  # 200, give or take four times its deviation
    assert all(Sampler().keeps(begun_by(str(number))) for number in range(100))
    assert not any(Sampler.of(0).keeps(begun_by(str(number))) for number in range(100))
    assert Sampler.of(0).keeps(TRACE, Place(TRACE, SPAN, 1))
    assert not Sampler().keeps(TRACE, Place(TRACE, SPAN, 0))
    assert Sampler(parent=False).keeps(TRACE, Place(TRACE, SPAN, 0))


def test_the_names_are_those_of_the_conventions() -> None:
    modules = {
        "MESSAGING": messaging_attributes,
        "DB": db_attributes,
        "HTTP": http_attributes,
        "SERVER": server_attributes,
        "URL": url_attributes,
        "ERROR": error_attributes,
        "SERVICE": service_attributes,
    }
    ours = {name: value for name, value in vars(semconv).items() if name.partition("_")[0] in modules and "_" in name}
    assert len(ours) > 20
    for name, value in ours.items():
        assert getattr(modules[name.partition("_")[0]], name) == value
    kinds = messaging_attributes.MessagingOperationTypeValues
    assert (kinds.SEND.value, kinds.PROCESS.value, kinds.SETTLE.value) == (semconv.SEND, semconv.PROCESS, semconv.SETTLE)
    assert messaging_attributes.MessagingSystemValues.KAFKA.value == semconv.KAFKA


texts = st.text(max_size=300)
values = texts | st.integers(-(2**63), 2**63 - 1)
attributes = st.lists(st.tuples(texts, values), max_size=4).map(tuple)
times = st.integers(0, 2**64 - 1)
ids = st.binary(min_size=16, max_size=16).map(bytes.hex)
halves = st.binary(min_size=8, max_size=8).map(bytes.hex)
places = st.builds(Place, ids, halves, st.integers(0, 3))
spans = st.builds(
    Span,
    st.builds(Shape, texts, st.integers(0, 5), attributes),
    ids,
    halves,
    halves | st.just(""),
    times,
    times,
    attributes,
    st.lists(places, max_size=3).map(tuple),
    st.none() | texts,
    st.text(st.characters(max_codepoint=127), max_size=20),
)


@given(st.lists(st.tuples(st.builds(Source, attributes, texts), st.lists(spans, max_size=3)), max_size=3))
def test_what_is_written_by_hand_is_what_the_generated_classes_read(batch: list[tuple[Source, list[Span]]]) -> None:
    said = ExportTraceServiceRequest.FromString(otlp.Encoder().encode(batch))
    assert len(said.resource_spans) == len(batch)
    for found, (source, mine) in zip(said.resource_spans, batch, strict=True):
        assert _pairs(found.resource.attributes) == list(source.attributes)
        assert (found.scope_spans[0].scope.name, found.scope_spans[0].scope.version) == ("towpath", source.version)
        assert len(found.scope_spans[0].spans) == len(mine)
        for one, span in zip(found.scope_spans[0].spans, mine, strict=True):
            assert (one.trace_id.hex(), one.span_id.hex(), one.parent_span_id.hex()) == (
                span.trace_id,
                span.span_id,
                span.parent,
            )
            assert (one.name, one.kind, one.trace_state) == (span.shape.name, span.shape.kind, span.state)
            assert (one.start_time_unix_nano, one.end_time_unix_nano) == (span.start, span.end)
            assert _pairs(one.attributes) == [*span.shape.attributes, *span.attributes]
            assert [(link.trace_id.hex(), link.span_id.hex()) for link in one.links] == [
                (link.trace_id, link.span_id) for link in span.links
            ]
            assert (one.status.code, one.status.message) == ((2, span.error) if span.error is not None else (0, ""))


def _pairs(found: object) -> list[tuple[str, str | int]]:
    return [
        (one.key, getattr(one.value, one.value.WhichOneof("value")))
        for one in found  # type: ignore[attr-defined]  # generated classes
    ]


def test_a_link_becomes_a_tag_in_zipkin_that_the_other_trace_can_be_found_by() -> None:
    shape = Shape("process t", CONSUMER, (("messaging.system", "kafka"),))
    span = Span(shape, "a" * 32, "b" * 16, "c" * 16, 5_000, 9_999, (("n", 1),), (Place(TRACE, SPAN, 1),), "Retry: busy")
    (said,) = json.loads(zipkin.Encoder().encode([(Source((("service.name", "orders.payment"),)), [span])]))
    assert said == {
        "traceId": "a" * 32,
        "id": "b" * 16,
        "parentId": "c" * 16,
        "kind": "CONSUMER",
        "name": "process t",
        "timestamp": 5,
        "duration": 4,
        "localEndpoint": {"serviceName": "orders.payment"},
        "tags": {
            "messaging.system": "kafka",
            "n": "1",
            "links": TRACE,
            "otel.status_code": "ERROR",
            "error": "Retry: busy",
        },
    }
