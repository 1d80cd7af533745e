"""One record in, one Outcome out: what the laws in tests/property do not say."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from streams.codec import Codec
from streams.errors import Reject, Unavailable
from streams.process import Failure, Outcome, Processor, Verdict
from streams.record import Headers, Output, Record
from streams.registry import FolderRegistry
from streams.stage import Context, Stage, Store
from streams.travel import OUTPUT_LIMIT, output_id
from tests.support.moves import Answered, Asked, Told, schemas

CODEC = Codec([Asked, Answered], FolderRegistry(schemas()))
VALUE = CODEC.encoder(Asked)(Asked("k", 1))


def record(headers: Headers = (("id", b"e1"),)) -> Record:
    return Record("moves.asked", 0, 0, b"k", VALUE, headers)


def processor(end: Callable[[Context], Any], **options: Any) -> Processor:
    stage = Stage("play", **options)

    @stage.on
    def play(asked: Asked, ctx: Context) -> tuple[Answered, ...]:  # noqa: ARG001  # a handler's signature
        return end(ctx)  # type: ignore[no-any-return]  # whatever the test wants

    return Processor(stage, CODEC, {})


def run(made: Processor, at: Record, attempt: int = 1) -> Outcome:
    return asyncio.run(made.run(at, attempt, 0.0))


def failure(outcome: Outcome) -> Failure:
    assert outcome.failure is not None
    return outcome.failure


def test_outputs_have_derived_ids_and_carry_unknown_headers_on_untouched() -> None:
    headers: Headers = (("traceparent", b"00-ab"), ("id", b"e1"), ("x", None), ("cause", b"e0"), ("x", b"\xff"))
    outcome = run(processor(lambda _: (Answered("a", 1, 0), Answered("b", 1, 1))), record(headers))
    assert [output.key for output in outcome.outputs] == [b"a", b"b"]
    for index, output in enumerate(outcome.outputs):
        own = (("id", output_id("e1", "play", index).encode()), ("cause", b"e1"))
        assert output.headers == (*own, ("traceparent", b"00-ab"), ("x", None), ("x", b"\xff"))


def test_an_event_that_the_annotation_does_not_allow_is_a_bug_and_named() -> None:
    outcome = run(processor(lambda _: (Told("k", 1),)), record())
    assert outcome.verdict is Verdict.RETRY
    assert failure(outcome).message == "a handler of stage 'play' returned Told; its annotation allows Answered"


def test_a_fingerprint_names_the_handlers_own_frame_and_no_line() -> None:
    def deep(_: Context) -> None:
        int("x")

    assert failure(run(processor(deep), record())).fingerprint.startswith("ValueError@test_process.py:")
    assert failure(run(processor(deep), record())).fingerprint.endswith("deep")


@pytest.mark.parametrize(
    ("who", "headers"),
    [("k" * OUTPUT_LIMIT, ()), ("k", (("x", b"h" * OUTPUT_LIMIT),)), ("k", (("x", b"h" * (OUTPUT_LIMIT // 100)),) * 101)],
)
def test_an_output_that_no_broker_takes_is_dead_and_never_aborts_its_batch(who: str, headers: Headers) -> None:
    outcome = run(processor(lambda _: (Answered(who, 1, 0),)), record(headers))
    assert outcome.verdict is Verdict.REJECT
    assert "1,000,000 are allowed" in failure(outcome).message


def test_an_output_just_below_the_limit_goes() -> None:
    assert run(processor(lambda _: (Answered("k", 1, 0),)), record((("x", b"h" * 900_000),))).verdict is Verdict.DONE


def test_a_record_of_a_topic_that_the_stage_no_longer_consumes_is_dead() -> None:
    outcome = run(processor(lambda _: ()), Record("moves.gone", 0, 0, b"k", VALUE))
    assert outcome.verdict is Verdict.REJECT
    assert "moves.gone" in failure(outcome).message


def test_an_id_that_is_not_fit_to_be_one_is_replaced_by_the_records_place() -> None:
    seen: list[str] = []

    def handle(ctx: Context) -> None:
        seen.append(ctx.event_id)

    made = processor(handle)
    for bad in (None, b"", b"\xff", b"a\nb", b"x" * 65):
        run(made, record((("id", bad),)))
    run(made, record(()))
    run(made, record((("id", b"x" * 64),)))
    assert len(set(seen[:6])) == 1
    assert seen[6] == "x" * 64


class Book:
    """A journal that remembers, and says which savepoints were undone."""

    repository = "repository"

    def __init__(self) -> None:
        self.known: dict[str, tuple[Output, ...]] = {}
        self.undone = 0

    def recorded(self, event_id: str) -> tuple[Output, ...] | None:
        return self.known.get(event_id)

    def record(self, event_id: str, outputs: Sequence[Output], *_: Any) -> None:
        self.known[event_id] = tuple(outputs)

    def expect(self, events: Callable[[], Sequence[Any]]) -> None:
        pass

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.undone += 1
            raise


STORE: Store[str] = Store("shelf", tables=None, repository=str, migrations=Path())


def test_an_event_that_comes_again_gives_its_recorded_outputs_and_runs_nothing() -> None:
    runs: list[str] = []

    def handle(ctx: Context) -> tuple[Answered, ...]:
        runs.append(ctx.use(STORE))
        return (Answered("k", len(runs), 0),)

    made, book = processor(handle, store=STORE), Book()
    made.use(book)
    first = run(made, record())
    assert run(made, record(), attempt=2) == first
    assert runs == ["repository"]
    assert run(made, record((("id", b"e2"),))) != first


@pytest.mark.parametrize(
    ("error", "verdict"),
    [(Reject("no"), Verdict.REJECT), (Unavailable("db"), Verdict.UNAVAILABLE), (ValueError("bug"), Verdict.RETRY)],
)
def test_the_effects_of_an_event_that_failed_are_undone_and_not_recorded(error: Exception, verdict: Verdict) -> None:
    def handle(_: Context) -> None:
        raise error

    made, book = processor(handle, store=STORE), Book()
    made.use(book)
    assert run(made, record()).verdict is verdict
    assert book.undone == 1
    assert book.known == {}


def test_outputs_that_cannot_be_encoded_undo_their_effects_too() -> None:
    made, book = processor(lambda _: (Answered("k", 2**63, 0),), store=STORE), Book()
    made.use(book)
    assert failure(run(made, record())).kind == "EncodeError"
    assert book.undone == 1
