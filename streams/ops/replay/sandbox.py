"""A stage's handlers with nothing real around them: the ports, and if wished the store, answer from what is recorded.

The one rule: nothing is connected to. What a port does not know from the record makes the event undecidable.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from typing import Any, Self

from streams.codec import Codec
from streams.config import Settings
from streams.errors import DecodeError, Undecidable
from streams.ops.replay.evidence import Emitted, emitted
from streams.process import Outcome, Processor, Ready
from streams.record import Record, event_info
from streams.snapshot import Remembered
from streams.stage import Past, Port, Stage, Store
from streams.travel import FAN, output_id


class Sandbox:
    """One event after the other. `real_store`: the store is a throw-away one, given by `processor.use`.

    An asynchronous context manager.
    """

    def __init__(self, stage: Stage, codec: Codec, settings: Settings, *, real_store: bool = False) -> None:
        self._stage = stage
        self._settings = settings
        self._past: Callable[[], Past] | None = None
        self._answers: dict[Any, Any] = {}
        self._undecided = ""
        self._stack = AsyncExitStack()
        self._resources: dict[Any, Any] = {port: _Standin(self, port) for port in stage.ports if not port.pure}
        if stage.store is not None and not real_store:
            self._resources[stage.store] = _Standin(self, stage.store)
        self._codec = codec
        self._decoders: dict[str, Callable[[bytes | None], Any]] = {
            event_info(cls).topic: codec.decoder(cls) for cls in stage.events
        }
        self.processor: Processor

    async def __aenter__(self) -> Self:
        for port in self._stage.ports:
            if port.pure:
                manager = port.connect(self._settings)
                if isinstance(manager, AbstractAsyncContextManager):
                    self._resources[port] = await self._stack.enter_async_context(manager)
                else:
                    self._resources[port] = self._stack.enter_context(manager)
        self.processor = Processor(self._stage, self._codec, self._resources)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def start(self, ready: Ready, then: Sequence[Emitted] | None, now: float) -> Outcome | Awaitable[Outcome]:
        """What comes of a record, if what it led to was `then`; None: it was not handled to its end. See `Processor.start`.

        `now` is in seconds since the Unix epoch. An outcome that nobody can tell is `undecided`.
        """
        self._answers.clear()
        self._undecided = ""
        self._past = None if then is None else lambda: self._told(ready[0], then)
        return self.processor.start(ready, 1, now)

    def undecided(self, outcome: Outcome) -> str:
        """Why nobody can tell what comes of the last record; empty if it is known."""
        failure = outcome.failure
        said = failure.message if failure is not None and failure.kind == Undecidable.__name__ else ""
        return self._undecided or said

    def answer(self, resource: Port[Any] | Store[Any]) -> Any:
        """What stands in for a port or the store. Raises `Undecidable`."""
        found = self._answers.get(resource)
        if found is None:
            try:
                if resource.recorded is None:
                    raise Undecidable(f"{resource.name} does not say what it answered then")
                if self._past is None:
                    raise Undecidable(f"nothing is recorded of what {resource.name} answered")
                found = self._answers[resource] = resource.recorded(self._past())
            except Undecidable as error:  # a handler may take any error for something else
                self._undecided = str(error)
                raise
        return found

    def _told(self, record: Record, then: Sequence[Emitted]) -> Past:
        event = self._decoders[record.topic](record.value)
        outputs = []
        for output in then:
            with suppress(DecodeError, KeyError):  # of an older version whose class is gone
                outputs.append(self._decoders[output.topic](output.value))
        return Past(event, tuple(outputs))


class _Standin:
    """A resource whose every method is asked of what is recorded."""

    def __init__(self, sandbox: Sandbox, resource: Port[Any] | Store[Any]) -> None:
        self._sandbox = sandbox
        self._resource = resource

    def __getattr__(self, name: str) -> Any:
        answer = self._sandbox.answer(self._resource)
        if not hasattr(answer, name):  # the handler asks for what it did not ask for then
            raise Undecidable(f"{self._resource.name} does not say what it would have answered to {name}")
        return getattr(answer, name)


def own(
    cause: str, stage: Stage, found: Sequence[Emitted], remembered: Remembered | None, joint: frozenset[str]
) -> Sequence[Emitted]:
    """What of the records with this cause is the stage's own, in the order in which it was emitted.

    Others emit to topics that are `joint`, too.
    """
    if len(found) < 2 and all(one.topic not in joint for one in found):
        return found
    by_id = {one.id: one for one in found}
    count = len(found) + (len(remembered.outputs) if remembered else FAN if found else 0)
    ids = (output_id(cause, stage.name, index) for index in range(count))
    return [by_id[known] for known in ids if known in by_id]


def then(found: Sequence[Emitted], remembered: Remembered | None, *, handled: bool) -> Sequence[Emitted] | None:
    """What a record led to, for whoever answers by it: the inbox knows it even if it is on its topic no more."""
    if remembered is not None:
        return [emitted(output) for output in remembered.outputs]
    return found if found or handled else None


def moment(record: Record, found: Sequence[Emitted], remembered: Remembered | None) -> float:
    """When a record was handled, in seconds since the Unix epoch; of one without a trace, when it was written."""
    if remembered is not None:
        return (remembered.at + 0.5) / 1000  # the whole millisecond it was, whatever becomes of it as a float
    return (found[0].timestamp if found else record.timestamp) / 1000
