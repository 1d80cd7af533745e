"""Where spans go, and what becomes of them when nobody is there."""

import gzip
import logging
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from streams.errors import SetupError
from streams.export import Config, Exporter, configured, source
from streams.otlp import Source
from streams.trace import CONSUMER, Sampler, Shape, Span
from tests.support.workers import free_port, wait_for

SHAPE = Shape("process t", CONSUMER)
SOURCE = Source((("service.name", "orders.payment"),))
QUICK = {"OTEL_BSP_SCHEDULE_DELAY": "5"}


class Collector:
    """Takes what is exported; `status` is what it answers, `gate` holds the answer back."""

    def __init__(self) -> None:
        self.status = 200
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.gate = threading.Event()
        self.gate.set()
        collector = self

        class Take(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.got.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
                collector.gate.wait(10)
                self.send_response(collector.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Take)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def end(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()
    yield found
    found.end()


Start = Callable[[dict[str, str]], Exporter]


@pytest.fixture
def start() -> Iterator[Start]:
    """Exporters by their variables, closed at the end."""
    made: list[Exporter] = []

    def begin(environ: dict[str, str]) -> Exporter:
        config = configured(environ)
        assert config is not None
        made.append(Exporter(config))
        return made[-1]

    yield begin
    for exporter in made:
        exporter.close()
        assert not exporter._thread.is_alive()


def spans(count: int) -> list[Span]:
    return [Span(SHAPE, f"{number:032x}", f"{number:016x}", "", 1, 2) for number in range(1, count + 1)]


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_SERVICE_NAME": "x", "OTEL_TRACES_SAMPLER": "always_on"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://there:4318", "OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://there:4318", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
    ],
)
def test_traces_are_off_unless_somebody_asks_for_them(environ: dict[str, str]) -> None:
    assert configured(environ) is None


@pytest.mark.parametrize(
    ("environ", "url", "zipkin"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://there:4318/"}, "http://there:4318/v1/traces", False),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://there/ingest"}, "https://there/ingest", False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "http://localhost:4318/v1/traces", False),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "http://localhost:9411/api/v2/spans", True),
        ({"OTEL_EXPORTER_ZIPKIN_ENDPOINT": "http://z:1/api/v2/spans"}, "http://z:1/api/v2/spans", True),
    ],
)
def test_the_variable_says_where_they_go(environ: dict[str, str], url: str, *, zipkin: bool) -> None:
    config = configured(environ)
    assert config is not None
    assert (config.url, config.zipkin) == (url, zipkin)
    assert config.sampler == Sampler()


def test_the_standard_variables_are_heeded() -> None:
    config = configured(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "https://there",
            "OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer%20abc, x-team=orders",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "2500",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "OTEL_EXPORTER_OTLP_CERTIFICATE": "/ca.pem",
            "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": "/me.pem",
            "OTEL_EXPORTER_OTLP_CLIENT_KEY": "/me.key",
            "OTEL_BSP_MAX_QUEUE_SIZE": "10",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "5",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0.25",
        }
    )
    assert config == Config(
        url="https://there/v1/traces",
        zipkin=False,
        headers={"authorization": "Bearer abc", "x-team": "orders"},
        timeout=2.5,
        compress=True,
        verify="/ca.pem",
        certificate=("/me.pem", "/me.key"),
        queue=10,
        batch=5,
        every=200,
        sampler=Sampler.of(0.25),
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_TRACES_EXPORTER", "jaeger"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "there:4318"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
    ],
)
def test_what_cannot_be_done_is_said_at_the_start(name: str, value: str) -> None:
    with pytest.raises(SetupError, match=r"fix|use|write"):
        configured({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://there:4318", name: value})
    with pytest.raises(SetupError, match="share"):
        configured({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "2"})


def test_what_is_said_of_a_service_from_outside_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    assert dict(source({"service.name": "orders.payment"}, "1").attributes) == {
        "service.name": "orders.payment",
        "deployment.environment.name": "test",
    }
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    assert source({"service.name": "orders.payment"}, "1").service == "mine"


def test_spans_arrive_as_otlp(collector: Collector, start: Start) -> None:
    more = {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20abc", "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}
    exporter = start({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url} | QUICK | more)
    exporter.put(SOURCE, spans(3))
    wait_for(lambda: exporter.sent == 3, 10, "they have not arrived")
    path, headers, body = collector.got[0]
    assert path == "/v1/traces"
    assert (headers["authorization"], headers["content-type"]) == ("Bearer abc", "application/x-protobuf")
    said = ExportTraceServiceRequest.FromString(gzip.decompress(body))
    assert [span.span_id.hex() for span in said.resource_spans[0].scope_spans[0].spans] == [
        f"{number:016x}" for number in (1, 2, 3)
    ]


def test_what_is_left_is_sent_at_the_end(collector: Collector, start: Start) -> None:
    exporter = start({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "3600000"})
    exporter.put(SOURCE, spans(3))
    assert exporter.sent == 0
    exporter.close()
    assert exporter.sent == 3


def test_an_endpoint_that_takes_nothing_in_costs_spans_and_one_line(
    collector: Collector, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    collector.status = 400
    exporter = start({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url} | QUICK)
    for count in range(1, 4):
        exporter.put(SOURCE, spans(2))
        wait_for(lambda count=count: exporter.dropped == 2 * count, 10, "nothing is dropped")  # type: ignore[misc]
    lines = [record for record in caplog.records if record.name.startswith("towpath")]
    assert [record.getMessage() for record in lines] == ["traces: 2 spans are dropped: it answers 400"]
    assert not any(record.exc_info for record in caplog.records)


def test_nobody_there_is_one_line_without_a_traceback_and_ends_in_time(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    exporter = start({"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"} | QUICK)
    exporter.put(SOURCE, spans(2))
    wait_for(lambda: not exporter._waiting, 10, "it does not try")
    exporter.close()
    assert exporter.dropped == 2
    assert [(record.name, record.levelno, record.exc_info) for record in caplog.records] == [
        ("towpath.traces", logging.WARNING, None)
    ]
    assert "does not answer (ConnectionError)" in caplog.text


def test_what_the_queue_does_not_hold_is_dropped_and_whoever_brings_it_does_not_wait(
    collector: Collector, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    collector.gate.clear()
    more = {"OTEL_BSP_MAX_QUEUE_SIZE": "10", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4"}
    exporter = start({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url} | QUICK | more)
    exporter.put(SOURCE, spans(4))
    wait_for(lambda: bool(collector.got), 10, "nothing is sent")
    for _ in range(5):
        exporter.put(SOURCE, spans(5))  # the endpoint is still at the first batch
    assert exporter.dropped == 15
    assert "15 spans" not in caplog.text
    assert "5 spans are dropped: more than can be sent" in caplog.text
    collector.gate.set()
    wait_for(lambda: exporter.sent == 14, 10, "what was kept has not arrived")
    assert [len(body) > 0 for _, _, body in collector.got] == [True] * 4  # of 4, 4, 4 and 2
