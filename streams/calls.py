"""HTTP requests that a handler makes: each a span of the attempt's trace, which the other side hears of.

The one rule: who makes the request gives the span; where traces are off, or nobody wants this one, it costs a look.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from random import getrandbits
from urllib.parse import urlsplit

from streams import semconv
from streams.stage import AT, HERE
from streams.trace import CLIENT, TRACEPARENT, TRACESTATE, Place, Shape, Span, Step, Value, write


class Call:
    """A request at work. `headers` go with it; put the answer's `status` here."""

    def __init__(self, headers: dict[str, str]) -> None:
        self.headers = headers
        self.status = 0


@contextmanager
def call(method: str, url: str, template: str = "") -> Iterator[Call]:
    """Around one request and the reading of its answer. `template` is the path without what differs from one to the next.

    Of the URL only host and port are told: a path may hold an id and a query a secret.
    """
    context = AT.get() or HERE.context
    trace = context.trace if context is not None else None
    if trace is None:
        yield Call({})
        return
    if not isinstance(trace, Step):
        yield Call({TRACEPARENT: write(trace).decode()})
        return
    mine = Place(trace.trace_id, f"{getrandbits(64) or 1:016x}", trace.flags)
    headers = {TRACEPARENT: write(mine).decode()}
    if trace.state:
        headers[TRACESTATE] = trace.state
    at, began, error = Call(headers), time.time_ns(), None
    try:
        yield at
    except BaseException as problem:
        error = type(problem).__name__
        raise
    finally:
        attributes, failed = _attributes(url, at.status, error)
        span = Span(_shape(method, template), mine.trace_id, mine.span_id, trace.span_id, began, time.time_ns(), attributes)
        span.error = failed
        trace.spans.append(span)


@lru_cache(maxsize=256)
def _shape(method: str, template: str) -> Shape:
    known: tuple[tuple[str, Value], ...] = ((semconv.HTTP_REQUEST_METHOD, method),)
    return Shape(f"{method} {template}".strip(), CLIENT, (*known, (semconv.URL_TEMPLATE, template)) if template else known)


def _attributes(url: str, status: int, error: str | None) -> tuple[tuple[tuple[str, Value], ...], str | None]:
    """What a span says of where a request went and what came of it, and its error if it has one."""
    parts = urlsplit(url)
    found: list[tuple[str, Value]] = [(semconv.SERVER_ADDRESS, parts.hostname or "")]
    found.append((semconv.SERVER_PORT, parts.port or (443 if parts.scheme == "https" else 80)))
    if status:
        found.append((semconv.HTTP_RESPONSE_STATUS_CODE, status))
    if error is None and status >= 400:
        error = str(status)
    if error is not None:
        found.append((semconv.ERROR_TYPE, error))
    return tuple(found), error
