"""An event loop whose time is the simulation's clock.

The one rule: it does nothing by itself and waits for nothing. `run` does what can be done now; whoever owns the clock moves it.
"""

import asyncio
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple

from streams.memory.broker import Clock

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class VirtualLoop(asyncio.AbstractEventLoop):
    """What coroutines need: tasks, futures, timers. No sockets, no signals; a thread's work is done in place."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[asyncio.TimerHandle] = []
        self.trouble: list[BaseException | str] = []  # what a task or a callback died of and nobody asked for

    def run(self) -> None:
        """Run all that is ready or due, and what that makes ready, until everybody waits for something."""
        ready, timers = self._ready, self._timers
        if not ready and not self._is_due():
            return
        events._set_running_loop(self)
        try:
            while ready or (timers and self._is_due()):
                handle = ready.popleft() if ready else heapq.heappop(timers)
                if not handle._cancelled:
                    handle._run()
        finally:
            events._set_running_loop(None)

    @property
    def wake(self) -> float:
        """When its next timer is due, in seconds of the clock; infinite if there is none."""
        while self._timers and self._timers[0].cancelled():
            heapq.heappop(self._timers)
        return self._timers[0].when() if self._timers else float("inf")

    def _is_due(self) -> bool:
        return bool(self._timers) and self.wake <= self._clock.now()

    # -- what asyncio calls ---------------------------------------------------------------------------------------------

    def time(self) -> float:
        """The clock's."""
        return self._clock.now()

    def call_soon(self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None) -> asyncio.Handle:
        """See asyncio."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """See asyncio."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """See asyncio."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        """See asyncio."""
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]  # the signature differs between Python versions
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[T]:
        """See asyncio."""
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def run_in_executor(
        self,
        executor: Any,  # noqa: ARG002  # there is none
        func: Callable[[*Ts], T],
        *args: *Ts,
    ) -> asyncio.Future[T]:
        """The result, at once: in here a thread's work is a call."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep it for who runs the loop."""
        self.trouble.append(context.get("exception") or str(context.get("message")))

    def get_debug(self) -> bool:
        """Never: it costs, and everything is the same in each run anyhow."""
        return False

    def is_running(self) -> bool:
        """Whether `run` is at work."""
        return events._get_running_loop() is self

    def is_closed(self) -> bool:
        """There is nothing to be closed."""
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time comes."""
