"""Laws of `process`: there is an Outcome for any bytes, any headers and any handler, and it is the same each time."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from streams.codec import Codec
from streams.errors import Reject, Retry, Unavailable
from streams.process import MESSAGE_LIMIT, Outcome, Processor, Verdict
from streams.record import Output, Record
from streams.registry import FolderRegistry
from streams.stage import Context, Stage
from streams.travel import event_id, output_id
from tests.support.moves import Answered, Asked, schemas

CODEC = Codec([Asked, Answered], FolderRegistry(schemas()))
GOOD = CODEC.encoder(Asked)(Asked("k", 1))
HEADERS = st.lists(
    st.tuples(st.sampled_from(["id", "cause", "traceparent", "x"]), st.none() | st.binary(max_size=70)), max_size=5
)


class Mute(Exception):
    """An error that fails when it is asked what it says."""

    def __str__(self) -> str:
        raise RuntimeError


class Forgetful(Unavailable):
    """A verdict whose author forgot to call `super().__init__`."""

    def __init__(self) -> None:
        pass


class Hasty(Retry):
    def __init__(self) -> None:
        pass


def endings() -> st.SearchStrategy[Callable[[], Any]]:
    """Whatever a handler may do at its end: raise or return anything."""
    waits: st.SearchStrategy[Any] = st.none() | st.floats() | st.integers() | st.sampled_from(["soon", b"", 10**400])
    text = st.text(st.characters(), max_size=600)
    errors: st.SearchStrategy[BaseException] = st.one_of(
        st.builds(Retry, text, after=waits),
        st.builds(Unavailable, text, after=waits),
        st.builds(Reject, text),
        st.builds(ValueError, text),
        st.sampled_from(
            [Mute(), Forgetful(), Hasty(), StopIteration(), RecursionError(), asyncio.CancelledError(), TimeoutError()]
        ),
    )
    events = st.builds(Answered, st.text(st.characters()), st.integers(), st.integers(0, 3))
    values: st.SearchStrategy[Any] = st.one_of(
        st.none(),
        events,
        st.lists(events, max_size=3),
        st.integers(),
        st.text(),
        st.just(Asked("k", 1)),
        st.lists(st.integers()),
    )
    return errors.map(_raise) | values.map(_return)


def _raise(error: BaseException) -> Callable[[], Any]:
    def end() -> Any:
        raise error

    return end


def _return(value: Any) -> Callable[[], Any]:
    return lambda: value


def run(end: Callable[[], Any], record: Record, *, asynchronous: bool) -> Outcome:
    stage = Stage("play")

    def play(asked: Asked, ctx: Context) -> tuple[Answered, ...]:  # noqa: ARG001  # a handler's signature
        return end()  # type: ignore[no-any-return]  # that is the point

    async def play_slowly(asked: Asked, ctx: Context) -> tuple[Answered, ...]:  # noqa: ARG001  # as above
        await asyncio.sleep(0)
        return end()  # type: ignore[no-any-return]  # that is the point

    stage.on(play_slowly if asynchronous else play)
    return asyncio.run(Processor(stage, CODEC, {}).run(record, 1, 0.0))


@given(value=st.just(GOOD) | st.none() | st.binary(max_size=40), headers=HEADERS, end=endings(), asynchronous=st.booleans())
def test_whatever_comes_and_whatever_a_handler_does_there_is_one_outcome(
    value: bytes | None, headers: list[Any], end: Callable[[], Any], asynchronous: bool
) -> None:
    record = Record("moves.asked", 0, 0, b"k", value, tuple(headers))
    outcome = run(end, record, asynchronous=asynchronous)
    assert (outcome.verdict is Verdict.DONE) == (outcome.failure is None)
    assert not outcome.outputs or outcome.verdict is Verdict.DONE
    if value != GOOD:
        return
    assert outcome.verdict is not Verdict.UNDECODABLE
    failure = outcome.failure
    if failure is not None:
        assert len(failure.message.encode()) <= MESSAGE_LIMIT, "strict: what is kept can be written down"
        failure.dependency.encode()
        assert failure.after is None or 0 <= failure.after < 1e9
    for index, output in enumerate(outcome.outputs):
        assert ids(output) == (output_id(event_id(record), "play", index), event_id(record))
        assert output.headers[2:] == tuple(header for header in headers if header[0] not in ("id", "cause"))


@given(headers=HEADERS)
def test_an_event_has_the_same_printable_id_each_time_and_keeps_a_good_one(headers: list[Any]) -> None:
    record = Record("moves.asked", 1, 2, b"k", GOOD, tuple(headers))
    found = event_id(record)
    assert found == event_id(msgspec.structs.replace(record, key=b"other", value=None, timestamp=9))
    assert 1 <= len(found) <= 64
    assert found.isprintable()
    given_id = next((value for name, value in headers if name == "id"), None)
    if given_id is not None and given_id.isalnum():
        assert found == (given_id.decode() if given_id.isascii() and len(given_id) <= 64 else found)


def ids(output: Output) -> tuple[str, str]:
    own = dict(output.headers[:2])
    return (own["id"] or b"").decode(), (own["cause"] or b"").decode()
