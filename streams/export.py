"""Where spans go: to an OTLP or Zipkin endpoint, by OpenTelemetry's standard variables; off unless one of them asks for it.

The one rule: whoever makes spans is never kept waiting and never hears of an error. What the queue cannot hold and what nobody
takes is dropped and counted; a log says so once a minute.
"""

import gzip
import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

import msgspec
import requests

from streams import otlp, zipkin
from streams.errors import SetupError
from streams.otlp import Source
from streams.trace import Sampler, Span, Value

log = logging.getLogger("towpath.traces")

_ZIPKIN: Final = "http://localhost:9411/api/v2/spans"
_OTLP: Final = "http://localhost:4318"
_QUEUE: Final = 65_536  # spans; at about 500 bytes each
_BATCH: Final = 4096
_EVERY: Final = 1000  # milliseconds
_WAITS: Final = (1.0, 2.0, 4.0)  # seconds before a batch is tried again
_MINUTE: Final = 60.0
_TRANSIENT: Final = (408, 429, 502, 503, 504)
_LAST: Final = 2.0  # seconds for what is left at the end


class Encoding(Protocol):
    """How spans are written."""

    def encode(self, batch: Iterable[tuple[Source, Sequence[Span]]]) -> bytes:
        """A request's body."""
        ...


class Config(msgspec.Struct, frozen=True):
    """What the variables say. `timeout` is in seconds, `every` in milliseconds, `queue` and `batch` in spans."""

    url: str
    zipkin: bool
    headers: Mapping[str, str]
    timeout: float
    compress: bool
    verify: bool | str
    certificate: tuple[str, str] | str | None
    queue: int
    batch: int
    every: int
    sampler: Sampler


def configured(environ: Mapping[str, str]) -> Config | None:
    """What OTEL_* ask for; None if they ask for no traces. Raises `SetupError` for what cannot be done.

    Traces are on with OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, OTEL_EXPORTER_ZIPKIN_ENDPOINT or
    OTEL_TRACES_EXPORTER (otlp, zipkin); off with OTEL_TRACES_EXPORTER=none or OTEL_SDK_DISABLED=true.
    """
    said = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    ours = environ.get("OTEL_EXPORTER_ZIPKIN_ENDPOINT", "").strip()
    theirs = _otlp(environ, "ENDPOINT")
    if said == "none" or environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or not (said or ours or theirs):
        return None
    if said not in ("", "otlp", "zipkin"):
        raise SetupError(f"no exporter {said!r}", where="OTEL_TRACES_EXPORTER", fix="use otlp, zipkin or none")
    to_zipkin = said == "zipkin" or (not said and not theirs)
    if not to_zipkin and (protocol := _otlp(environ, "PROTOCOL") or "http/protobuf") != "http/protobuf":
        raise SetupError(f"no protocol {protocol!r}", where="OTEL_EXPORTER_OTLP_PROTOCOL", fix="use http/protobuf")
    keys = (_otlp(environ, "CLIENT_CERTIFICATE"), _otlp(environ, "CLIENT_KEY"))
    patience = "OTEL_EXPORTER_ZIPKIN_TIMEOUT" if to_zipkin else "OTEL_EXPORTER_OTLP_TIMEOUT"
    timeout = environ.get(patience, "") if to_zipkin else _otlp(environ, "TIMEOUT")
    return Config(
        url=_checked(ours or _ZIPKIN if to_zipkin else _traces(environ)),
        zipkin=to_zipkin,
        headers={} if to_zipkin else _headers(_otlp(environ, "HEADERS")),
        timeout=_number(patience, timeout, 10_000) / 1000,
        compress=not to_zipkin and _otlp(environ, "COMPRESSION") == "gzip",
        verify=_otlp(environ, "CERTIFICATE") or True,
        certificate=(keys if all(keys) else keys[0]) or None,
        queue=_number("OTEL_BSP_MAX_QUEUE_SIZE", environ.get("OTEL_BSP_MAX_QUEUE_SIZE", ""), _QUEUE),
        batch=_number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", environ.get("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", ""), _BATCH),
        every=_number("OTEL_BSP_SCHEDULE_DELAY", environ.get("OTEL_BSP_SCHEDULE_DELAY", ""), _EVERY),
        sampler=sampler(environ),
    )


def sampler(environ: Mapping[str, str]) -> Sampler:
    """What OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG say; all, unless the record's own header says no, by default."""
    name = environ.get("OTEL_TRACES_SAMPLER", "").strip() or "parentbased_always_on"
    parent, kind = name.startswith("parentbased_"), name.removeprefix("parentbased_")
    if kind == "always_on":
        return Sampler(parent=parent)
    if kind == "always_off":
        return Sampler(0, parent, errors=False)
    if kind == "traceidratio":
        text = environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip() or "1"
        try:
            share = float(text)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            raise SetupError(f"{text!r} is no share", where="OTEL_TRACES_SAMPLER_ARG", fix="use a number from 0 to 1")
        return Sampler.of(share, parent=parent)
    fix = "use always_on, always_off or traceidratio, each also with parentbased_ before it"
    raise SetupError(f"no sampler {name!r}", where="OTEL_TRACES_SAMPLER", fix=fix)


def source(known: Mapping[str, Value], version: str) -> Source:
    """A stage as OpenTelemetry's resource: `known`, over which OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME win."""
    from opentelemetry.sdk.resources import OTELResourceDetector  # noqa: PLC0415  # slow, and for nothing while traces are off

    said = OTELResourceDetector().detect().attributes.items()
    return Source(tuple({**known, **{name: str(value) for name, value in said}}.items()), version)


class Exporter:
    """Sends spans from a thread of its own. `sent` and `dropped` count spans."""

    def __init__(self, config: Config) -> None:
        self.sent = self.dropped = 0
        self._config = config
        self._encoder: Encoding = zipkin.Encoder() if config.zipkin else otlp.Encoder()
        self._http = requests.Session()
        self._http.headers.update(config.headers)
        self._http.headers["content-type"] = zipkin.CONTENT_TYPE if config.zipkin else otlp.CONTENT_TYPE
        self._http.verify, self._http.cert = config.verify, config.certificate
        self._queue: deque[tuple[Source, list[Span]]] = deque()
        self._waiting = 0
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._said = -_MINUTE
        self._untold = 0
        self._thread = threading.Thread(target=self._run, name="towpath-traces", daemon=True)
        self._thread.start()

    @property
    def counts(self) -> tuple[int, int]:
        """Spans sent and dropped."""
        return self.sent, self.dropped

    def put(self, source: Source, spans: list[Span]) -> None:
        """Take spans, or drop them; never waits. The list is the exporter's from now on."""
        with self._lock:
            if self._waiting + len(spans) <= self._config.queue:
                self._queue.append((source, spans))
                self._waiting += len(spans)
                return
            self.dropped += len(spans)
        self._complain(len(spans), "more than can be sent")

    def close(self) -> None:
        """Send what is left, for no more than two seconds."""
        self._end.set()
        self._thread.join(_LAST + 0.5)

    def _run(self) -> None:
        while not self._end.wait(self._config.every / 1000):
            self._send_all()
        deadline = time.monotonic() + _LAST
        while self._waiting and time.monotonic() < deadline and self._send_next(min(_LAST, self._config.timeout)):
            pass
        with self._lock:
            self.dropped += self._waiting
        self._http.close()

    def _send_all(self) -> None:
        """What there is now: what comes meanwhile is for the next time, unless it fills a batch."""
        while self._waiting and not self._end.is_set() and self._send_next(self._config.timeout):
            if self._waiting < self._config.batch:
                return

    def _send_next(self, timeout: float) -> bool:
        batch = self._take()
        count = sum(len(spans) for _, spans in batch)
        try:
            body = self._encoder.encode(batch)
            problem = self._post(body, timeout)
        except Exception as error:  # whatever it is: a stage does not end for the sake of its traces
            problem = type(error).__name__
        if problem:
            with self._lock:
                self.dropped += count
            self._complain(count, problem)
        else:
            self.sent += count
        return not problem

    def _take(self) -> list[tuple[Source, list[Span]]]:
        batch: list[tuple[Source, list[Span]]] = []
        count = 0
        with self._lock:
            while self._queue and count < self._config.batch:
                owner, spans = self._queue.popleft()
                room = self._config.batch - count
                if len(spans) > room:
                    self._queue.appendleft((owner, spans[room:]))
                    spans = spans[:room]
                if batch and batch[-1][0] is owner:
                    batch[-1][1].extend(spans)
                else:
                    batch.append((owner, spans))
                count += len(spans)
            self._waiting -= count
        return batch

    def _post(self, body: bytes, timeout: float) -> str:
        """Why it was not taken; empty if it was. What may pass is tried again, while there is time."""
        headers = {}
        if self._config.compress:
            body, headers = gzip.compress(body, 1), {"content-encoding": "gzip"}
        problem = ""
        for wait in (0.0, *_WAITS):
            if wait and self._end.wait(wait):
                return problem
            try:
                reply = self._http.post(self._config.url, data=body, headers=headers, timeout=timeout, allow_redirects=False)
            except requests.RequestException as error:
                problem = f"{urlsplit(self._config.url).netloc.rpartition('@')[2]} does not answer ({type(error).__name__})"
                continue
            if reply.ok:
                return ""
            problem = f"it answers {reply.status_code}"
            if reply.status_code not in _TRANSIENT:
                return problem
        return problem

    def _complain(self, count: int, why: str) -> None:
        """A line a minute."""
        self._untold += count
        now = time.monotonic()
        if now - self._said >= _MINUTE:
            self._said, untold, self._untold = now, self._untold, 0
            log.warning("traces: %d spans are dropped: %s", untold, why)


def _otlp(environ: Mapping[str, str], name: str) -> str:
    return (environ.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}") or environ.get(f"OTEL_EXPORTER_OTLP_{name}", "")).strip()


def _traces(environ: Mapping[str, str]) -> str:
    """The endpoint of traces as it is, or the general one with their path."""
    if exact := environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "").strip():
        return exact
    return f"{environ.get('OTEL_EXPORTER_OTLP_ENDPOINT', '').strip().rstrip('/') or _OTLP}/v1/traces"


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise SetupError("this is no URL of an endpoint", where="OTEL_EXPORTER_*_ENDPOINT", fix="write http://host:4318")
    return url


def _headers(text: str) -> dict[str, str]:
    """`name=value,name=value`, percent-encoded."""
    pairs = (part.partition("=") for part in text.split(",") if "=" in part)
    return {name.strip().lower(): unquote(value.strip()) for name, _, value in pairs}


def _number(where: str, text: str, default: int) -> int:
    if not text.strip():
        return default
    if not text.strip().isdigit() or not int(text):
        raise SetupError(f"{text!r} is no such number", where=where, fix="use a whole number above 0")
    return int(text)
