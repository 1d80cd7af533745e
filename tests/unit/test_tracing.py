"""Spans of a stage at work, on the real engine and a broker in memory."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from streams import names, semconv, testing
from streams.codec import Codec
from streams.engine import Engine
from streams.otlp import Source
from streams.record import Record
from streams.registry import FolderRegistry
from streams.stage import HERE, Context, Stage
from streams.testing import Simulation
from streams.trace import CONSUMER, PRODUCER, Place, Sampler, Span, incoming, write
from streams.traced import Traced, parts
from streams.tracing import StageTraces, Tracing
from tests.support.moves import Asked, World, make, schemas, start

HOME = Place("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", 1)
HOME_SPAN = (HOME.trace_id, HOME.span_id)
SOURCE = Source((("service.name", "moves.play"),))


class Kept:
    """Takes what is exported."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def put(self, source: Source, spans: list[Span]) -> None:
        assert source is SOURCE
        self.spans += spans

    def of(self, word: str) -> list[Span]:
        return [span for span in self.spans if span.shape.name.startswith(word)]


Run = Callable[..., tuple[Simulation, Kept]]


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Starts the flow `moves` with traces."""
    flows = []

    def run(sampler: Sampler = Sampler(), at: World | None = None, **options: Any) -> tuple[Simulation, Kept]:  # noqa: B008  # a frozen value
        kept = Kept()

        def engine(stage: Stage, session: Any, processor: Any, *rest: Any, effects: Any, **more: Any) -> Engine:
            tracing = Tracing(kept, sampler)  # type: ignore[arg-type]  # as much of an exporter as is needed
            traces = StageTraces(tracing, SOURCE, stage, names.group("moves", stage.name))
            codec = Codec(stage.events, FolderRegistry(schemas()))
            session, processor, effects = parts(traces, stage, codec, processor._resources, session, effects)
            return Engine(stage, session, processor, *rest, effects=effects, **more)

        monkeypatch.setattr(testing, "Engine", engine)
        flow = start(make(**options), at)
        flows.append(flow)
        return flow, kept

    yield run
    for flow in flows:
        flow.__exit__(None, None, None)


def ask(flow: Simulation, number: int, *moves: str, place: Place | None = None, who: str = "k") -> None:
    headers = ((("traceparent", write(place)), ("tracestate", b"shop=1")) if place else ()) + (("id", b"event-%d" % number),)
    value = Codec([Asked], FolderRegistry(schemas())).encoder(Asked)(Asked(who, number, moves))
    flow.broker.produce("moves.asked", who.encode(), value, headers, 0)


def answers(flow: Simulation) -> list[Record]:
    return flow.broker.read("moves.answered")


def attributes(span: Span) -> dict[str, str | int]:
    return dict((*span.shape.attributes, *span.attributes))


def test_a_record_goes_on_in_the_trace_that_its_header_names(traced: Run) -> None:
    flow, kept = traced()
    ask(flow, 1, "done:2", place=HOME)
    flow.run()
    (process,) = kept.of("process moves.asked")
    assert (process.trace_id, process.parent, process.shape.kind, process.state) == (*HOME_SPAN, CONSUMER, "shop=1")
    first, second = answers(flow)
    for sent, record in zip(kept.of("send moves.answered"), (first, second), strict=True):
        assert incoming(record.headers) == Place(HOME.trace_id, sent.span_id, 1)
        assert (sent.parent, sent.shape.kind) == (process.span_id, PRODUCER)
        assert sent.start <= sent.end
        assert dict(record.headers)["tracestate"] == b"shop=1"
    said = attributes(process)
    assert said[semconv.MESSAGING_KAFKA_MESSAGE_KEY] == "k"
    assert said[semconv.MESSAGING_MESSAGE_ID] == "event-1"
    assert (said[semconv.MESSAGING_DESTINATION_PARTITION_ID], said[semconv.MESSAGING_KAFKA_OFFSET]) == ("0", 0)


def test_a_transaction_has_a_trace_of_its_own_with_links_to_what_it_holds(traced: Run) -> None:
    flow, kept = traced()
    for number in range(3):
        ask(flow, number, place=HOME)
    flow.run()
    processed = kept.of("process")
    (whole,), (commit,) = kept.of("transaction moves.play"), kept.of("commit moves.play")
    assert {link.span_id for link in commit.links} == {span.span_id for span in processed}
    assert attributes(commit)[semconv.MESSAGING_BATCH_MESSAGE_COUNT] == 3
    assert (commit.parent, commit.trace_id) == (whole.span_id, whole.trace_id)
    assert {attributes(span)[semconv.TRANSACTION] for span in processed} == {whole.trace_id}
    assert whole.start <= min(span.start for span in processed)


def test_a_record_without_a_header_begins_a_trace_and_the_same_one_each_time(traced: Run) -> None:
    found = []
    for _ in range(2):
        flow, kept = traced()
        ask(flow, 1)
        flow.run()
        (record,) = answers(flow)
        place = incoming(record.headers)
        assert place is not None
        assert place.trace_id == kept.of("process")[0].trace_id
        found.append(record.headers)
    assert found[0] == found[1]


def test_what_nobody_wants_to_see_passes_as_it_is_and_leaves_no_span(traced: Run) -> None:
    flow, kept = traced(Sampler.of(0))
    unseen = Place(HOME.trace_id, HOME.span_id, 0)
    ask(flow, 1, place=unseen)
    ask(flow, 2)
    flow.run()
    assert kept.spans == []
    first, second = (incoming(record.headers) for record in answers(flow))
    assert first == unseen
    assert second is not None
    assert not second.sampled


def test_a_failure_is_kept_though_nobody_wanted_its_trace_and_followed_from_there(traced: Run) -> None:
    flow, kept = traced(Sampler.of(0))
    unseen = Place(HOME.trace_id, HOME.span_id, 0)
    ask(flow, 1, "bug", place=unseen)
    flow.run(seconds=10)
    failed, again = kept.of("process")
    assert (failed.trace_id, failed.parent) == HOME_SPAN
    assert failed.error == "ZeroDivisionError: a bug"
    assert attributes(failed)[semconv.ERROR_TYPE] == "ZeroDivisionError"
    assert again.error is None
    assert attributes(again)[semconv.ATTEMPT] == 2
    assert again.trace_id != HOME.trace_id
    assert again.links == (unseen,)
    (answer,) = answers(flow)
    place = incoming(answer.headers)
    assert place is not None
    assert (place.trace_id, place.sampled) == (again.trace_id, True)


def test_each_redrive_begins_a_trace_of_its_own_with_a_link(traced: Run) -> None:
    world = World()
    flow, kept = traced(at=world, after_dead="hold")
    ask(flow, 1, "reject", "reject", place=HOME)
    flow.run()
    for _ in range(2):
        held = flow.parked("play")[0]
        again = held.output(names.retry("moves", "play"), "operator")
        due = tuple((name, b"0" if name == "parked-due" else value) for name, value in again.headers)
        seq = tuple((name, b"0" if name == "parked-attempt" else value) for name, value in due)
        flow.broker.produce(again.topic, again.key, again.value, seq, again.partition)
        flow.run()
    spans = kept.of("process")
    assert len({span.trace_id for span in spans}) == 3
    assert [span.links for span in spans] == [(), (HOME,), (HOME,)]


def test_one_that_only_queued_goes_on_in_its_own_trace(traced: Run) -> None:
    flow, kept = traced()
    ask(flow, 1, "wait:5")
    ask(flow, 2, place=HOME)
    flow.run(seconds=10)
    assert kept.of("process")[-1].trace_id == HOME.trace_id


def test_nothing_is_told_of_a_transaction_that_did_not_happen_but_itself(traced: Run) -> None:
    flow, kept = traced()
    ask(flow, 0)  # before its first record a stage commits what is no work
    flow.run()
    kept.spans.clear()
    ask(flow, 1, place=HOME)
    flow.broker.abort_next("moves.play.a")
    flow.run()
    assert len(kept.of("process")) == len(kept.of("send")) == 1
    failed, done = kept.of("commit")
    assert failed.error
    assert done.error is None
    assert kept.spans.index(failed) < kept.spans.index(kept.of("process")[0])


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_a_handler_is_given_says_where_it_stands(
    traced: Run, monkeypatch: pytest.MonkeyPatch, *, asynchronous: bool
) -> None:
    seen: list[Any] = []
    use = Context.use

    def looking(self: Context, port: Any) -> Any:
        seen.append(self.trace)
        return use(self, port)

    monkeypatch.setattr(Context, "use", looking)
    flow, kept = traced(asynchronous=asynchronous)
    ask(flow, 1, place=HOME)
    flow.run()
    assert [trace.span_id for trace in seen] == [span.span_id for span in kept.of("process")]
    assert HERE.context is None
    assert isinstance(flow.workers[0].engine._processor, Traced)


def test_without_traces_the_header_travels_on_untouched() -> None:
    with start() as flow:
        ask(flow, 1, place=HOME)
        flow.run()
        assert dict(answers(flow)[0].headers)["traceparent"] == write(HOME)
