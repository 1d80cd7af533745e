"""`python -m tests.bench.stock`: a worker that traces as OpenTelemetry's own instrumentation of Kafka clients does.

The one rule: per message one span for processing and one for each output, by the SDK, its propagator and its batch exporter;
else it is ours.
"""

import os
from collections.abc import Awaitable
from typing import Any, Final

import msgspec
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import streams.traced
from streams import semconv
from streams.cli import main
from streams.process import Outcome, Processor, Ready

_PROPAGATOR: Final = TraceContextTextMapPropagator()


def _attributes(operation: str, topic: str) -> dict[str, str | int]:
    return {
        semconv.MESSAGING_SYSTEM: semconv.KAFKA,
        semconv.MESSAGING_OPERATION_NAME: operation,
        semconv.MESSAGING_OPERATION_TYPE: operation,
        semconv.MESSAGING_DESTINATION_NAME: topic,
    }


class _Stock(Processor):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(os.environ["STOCK_ENDPOINT"])))
        self._tracer = provider.get_tracer("stock")

    def start(self, ready: Ready, attempt: int, now: float) -> Outcome | Awaitable[Outcome]:
        record = ready[0]
        carrier = {name: (value or b"").decode("latin-1") for name, value in record.headers}
        attributes = _attributes("process", record.topic)
        attributes[semconv.MESSAGING_DESTINATION_PARTITION_ID] = str(record.partition)
        attributes[semconv.MESSAGING_KAFKA_OFFSET] = record.offset
        before = _PROPAGATOR.extract(carrier)
        with self._tracer.start_as_current_span(f"process {record.topic}", before, SpanKind.CONSUMER, attributes):
            outcome = super().start(ready, attempt, now)
            assert isinstance(outcome, Outcome)
            outputs = []
            for output in outcome.outputs:
                said = _attributes("send", output.topic)
                with self._tracer.start_as_current_span(f"send {output.topic}", kind=SpanKind.PRODUCER, attributes=said):
                    added: dict[str, str] = {}
                    _PROPAGATOR.inject(added)
                headers = tuple((name, value.encode()) for name, value in added.items())
                outputs.append(msgspec.structs.replace(output, headers=(*output.headers, *headers)))
        return msgspec.structs.replace(outcome, outputs=tuple(outputs))


if __name__ == "__main__":
    streams.traced.Processor = _Stock  # type: ignore[attr-defined,assignment]  # in the place of ours
    main()
