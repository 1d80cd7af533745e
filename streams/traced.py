"""A stage's parts, watched: its processor, its database and its session, each as it is, with spans of what it does.

The one rule: nothing is done otherwise than without them. Where traces are off there is none of these.
"""

from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from streams.codec import Codec
from streams.errors import Aborted
from streams.process import Effects, Journal, Outcome, Processor, Ready, Verdict
from streams.record import Output, Record
from streams.session import Place, Polled, Session
from streams.stage import Stage
from streams.tracing import StageTraces

_DONE: Final = Verdict.DONE


def parts(
    traces: StageTraces | None,
    stage: Stage,
    codec: Codec,
    resources: Mapping[Any, Any],
    session: Session,
    effects: Effects | None,
) -> tuple[Session, Processor, Effects | None]:
    """Session, processor and database of a stage; watched, if there are `traces`."""
    if traces is None:
        return session, Processor(stage, codec, resources), effects
    watched = TracedEffects(effects, traces) if effects is not None else None
    return TracedSession(session, traces), Traced(stage, codec, resources, traces), watched


class Traced(Processor):
    """A processor whose attempts are spans."""

    def __init__(self, stage: Stage, codec: Codec, resources: Mapping[Any, Any], traces: StageTraces) -> None:
        super().__init__(stage, codec, resources)
        self._traces = traces
        self._clock = traces.clock

    def read(self, records: Sequence[Record]) -> list[Ready]:
        """See `Processor`."""
        ready = super().read(records)
        self._traces.begin(ready)
        return ready

    def start(self, ready: Ready, attempt: int, now: float) -> Outcome | Awaitable[Outcome]:
        """See `Processor`."""
        travel = ready[1]
        if attempt > 1 or travel.case:
            self._traces.again(ready[0], travel, attempt)
        began = self._clock()
        outcome = Processor.start(self, ready, attempt, now)
        if not isinstance(outcome, Outcome):
            return self._ended(outcome, ready, attempt, began)
        if travel.step is not None or outcome.verdict is not _DONE:
            self._traces.end(ready[0], travel, attempt, began, outcome)
        return outcome

    async def _ended(self, waiting: Awaitable[Outcome], ready: Ready, attempt: int, began: int) -> Outcome:
        outcome = await waiting
        if ready[1].step is not None or outcome.verdict is not _DONE:
            self._traces.end(ready[0], ready[1], attempt, began, outcome)
        return outcome


class TracedEffects:
    """A stage's database whose batches are spans; see `Effects`."""

    def __init__(self, effects: Effects, traces: StageTraces) -> None:
        self._effects = effects
        self._traces = traces

    @contextmanager
    def batch(self, event_ids: Sequence[str], now: float, partitions: Sequence[int]) -> Iterator[Journal]:
        """See `Effects`."""
        traces = self._traces
        began = traces.clock()
        try:
            with self._effects.batch(event_ids, now, partitions) as journal:
                yield journal
        except BaseException as error:
            traces.forget()
            traces.database = began, traces.clock(), type(error).__name__
            raise
        traces.database = began, traces.clock(), None


class TracedSession:
    """A session whose transactions are spans; see `Session`."""

    def __init__(self, session: Session, traces: StageTraces) -> None:
        self._session = session
        self._traces = traces

    @property
    def token(self) -> str:
        """See `Session`."""
        return self._session.token

    def poll(self, limit: int, timeout: float) -> Polled:
        """See `Session`."""
        return self._session.poll(limit, timeout)

    def commit(self, outputs: Sequence[Output], offsets: Mapping[Place, int], metadata: str = "") -> None:
        """See `Session`."""
        traces = self._traces
        began = traces.clock()
        try:
            self._session.commit(outputs, offsets, metadata)
        except Aborted as error:
            traces.settled(began, str(error))
            raise
        traces.settled(began, None)

    def pause(self, partitions: Iterable[int]) -> None:
        """See `Session`."""
        self._session.pause(partitions)

    def resume(self, partitions: Iterable[int]) -> None:
        """See `Session`."""
        self._session.resume(partitions)

    def close(self) -> None:
        """See `Session`."""
        self._session.close()
