"""Spans as Zipkin v2 JSON: what `towpath up --traces` takes, which knows no OTLP.

The one rule: it follows OpenTelemetry's own mapping, except for links, which Zipkin does not have: they become the tag `links`,
with the ids of the other traces, so that one can be searched for from the other.

Sources: https://zipkin.io/zipkin-api/ (v2), https://opentelemetry.io/docs/specs/otel/trace/sdk_exporters/zipkin/.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from streams.otlp import Source
from streams.trace import CLIENT, CONSUMER, PRODUCER, SERVER, Span

CONTENT_TYPE: Final = "application/json"
LINKS: Final = "links"

_KINDS: Final = {SERVER: "SERVER", CLIENT: "CLIENT", PRODUCER: "PRODUCER", CONSUMER: "CONSUMER"}
_encode = msgspec.json.Encoder().encode


class Encoder:
    """See `streams.otlp.Encoder`."""

    def encode(self, batch: Iterable[tuple[Source, Sequence[Span]]]) -> bytes:
        """A list of spans, as POST /api/v2/spans takes it."""
        return _encode([_span(span, source) for source, spans in batch for span in spans])


def _span(span: Span, source: Source) -> dict[str, Any]:
    tags = {name: str(value) for name, value in (*span.shape.attributes, *span.attributes)}
    if span.links:
        tags[LINKS] = " ".join(dict.fromkeys(link.trace_id for link in span.links))
    if span.error is not None:
        tags |= {"otel.status_code": "ERROR", "error": span.error or "true"}
    found = {
        "traceId": span.trace_id,
        "id": span.span_id,
        "name": span.shape.name,
        "timestamp": span.start // 1000,
        "duration": max(1, (span.end - span.start) // 1000),
        "localEndpoint": {"serviceName": source.service},
        "tags": tags,
    }
    if span.parent:
        found["parentId"] = span.parent
    if kind := _KINDS.get(span.shape.kind):
        found["kind"] = kind
    return found
