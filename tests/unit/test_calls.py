"""HTTP requests of a handler as spans."""

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from streams.calls import call
from streams.config import Settings
from streams.record import Record
from streams.stage import AT, HERE, Context
from streams.trace import CLIENT, SAMPLED, Place, Span, Step, incoming, parse
from topologies.orders.ports import Charge
from topologies.orders.provider import connect

RECORD = Record("orders.accepted", 0, 7, b"o1", b"")
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
HOME = Place(TRACE, "00f067aa0ba902b7", SAMPLED)


def at(trace: Place | Step | None) -> Context:
    return Context(RECORD, "e", "payment", 1, 0.0, {}, trace)


@pytest.fixture
def step() -> Step:
    found = Step(TRACE, "b" * 16, HOME, SAMPLED)
    found.state = "shop=1"
    return found


def only(step: Step) -> Span:
    (span,) = step.spans
    return span


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_request_is_a_span_of_its_attempt_and_says_so(step: Step, *, asynchronous: bool) -> None:
    token = AT.set(at(step)) if asynchronous else None
    HERE.context = None if asynchronous else at(step)
    try:
        with call("POST", "https://psp.example/v1/payments/p1/refund?key=secret", "/v1/payments/{id}/refund") as this:
            this.status = 201
    finally:
        HERE.context = None
        if token is not None:
            AT.reset(token)
    span = only(step)
    place = parse(this.headers["traceparent"].encode())
    assert place == Place(TRACE, span.span_id, SAMPLED)
    assert this.headers["tracestate"] == "shop=1"
    assert (span.shape.name, span.shape.kind, span.parent) == ("POST /v1/payments/{id}/refund", CLIENT, step.span_id)
    said = dict((*span.shape.attributes, *span.attributes))
    assert said == {
        "http.request.method": "POST",
        "url.template": "/v1/payments/{id}/refund",
        "server.address": "psp.example",
        "server.port": 443,
        "http.response.status_code": 201,
    }
    assert span.error is None
    assert 0 < span.start <= span.end


def test_a_refusal_and_no_answer_are_errors(step: Step) -> None:
    HERE.context = at(step)
    try:
        with call("GET", "http://psp.example/") as this:
            this.status = 503
        with pytest.raises(TimeoutError), call("GET", "http://psp.example/"):
            raise TimeoutError("late")
    finally:
        HERE.context = None
    refused, silent = step.spans
    assert (refused.error, silent.error) == ("503", "TimeoutError")
    assert dict(silent.attributes)["error.type"] == "TimeoutError"


def test_the_payment_provider_hears_of_the_trace_beside_the_key_of_the_charge(step: Step) -> None:
    heard: list[dict[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        heard.append({name.lower(): value for name, value in request.headers.items()})
        return web.json_response({"id": "p1", "state": "captured"}, status=201)

    async def ask() -> None:
        app = web.Application()
        app.router.add_post("/v1/payments", answer)
        server = TestServer(app)
        await server.start_server()
        variables = {"psp_url": str(server.make_url("")), "psp_api_key": "sk"}
        async with connect(Settings(variables=variables)) as provider:
            AT.set(at(step))
            await provider.capture(Charge("charge-1", "o1", "c1", 500, "EUR"))
        await server.close()

    asyncio.run(ask())
    (headers,) = heard
    span = only(step)
    assert parse(headers["traceparent"].encode()) == Place(TRACE, span.span_id, SAMPLED)
    assert (headers["idempotency-key"], headers["authorization"]) == ("charge-1", "Bearer sk")
    assert (span.shape.name, span.error) == ("POST /v1/payments", None)


def test_of_a_trace_that_nobody_wants_only_the_header_goes(step: Step) -> None:
    unseen = Place(TRACE, HOME.span_id, 0)
    HERE.context = at(unseen)
    try:
        with call("GET", "http://psp.example/") as this:
            pass
    finally:
        HERE.context = None
    assert incoming([(name, value.encode()) for name, value in this.headers.items()]) == unseen
    assert step.spans == []


def test_without_traces_nothing_goes() -> None:
    HERE.context = at(None)
    try:
        with call("GET", "http://psp.example/") as this:
            assert this.headers == {}
    finally:
        HERE.context = None
    with call("GET", "http://psp.example/") as this:
        assert this.headers == {}
