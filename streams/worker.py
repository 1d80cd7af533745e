"""The worker: hosts stages as Faust agents; starts, watches and stops them.

The one rule: a stage that cannot go on ends the process with its reason and a code other than 0, to be started again.

librdkafka moves the records, Faust gives the agents, their supervision and the web server. Each stage is one agent over a
channel whose items are whole batches: `__anext__` is the poll. Only the stage's one thread may block on its session.
"""

import asyncio
import logging
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Final, TypeVar

import mode
from mode.supervisors import CrashingSupervisor

from streams import names
from streams.app import Channel, app
from streams.codec import Codec
from streams.config import Settings
from streams.dead import Case, DeadLetters
from streams.engine import Engine
from streams.errors import SetupError, TowpathError
from streams.garbage import collected_seldom
from streams.kafka.session import KafkaSession
from streams.logs import masking
from streams.pages import add_pages, free_port
from streams.pulse import Pulse, watch_loop
from streams.receipts import Receipt, Receipts
from streams.record import Record, event_info
from streams.registry import FolderRegistry
from streams.roster import enlisted
from streams.session import Inputs
from streams.stage import Stage
from streams.standing import Standing
from streams.store import Inbox
from streams.tally import PROCESS, Spread, Tally, ends
from streams.telemetry import Sample, of_worker
from streams.topology import Topology
from streams.traced import parts
from streams.tracing import Tracing
from streams.version import code_version

log = logging.getLogger("towpath.worker")

_DRAIN: Final = 5.0  # seconds for the cycle at work to end, of the 10 that SIGTERM leaves
_LEAVE: Final = 2.0  # seconds to leave the group after that
_WATCH: Final = 1.0  # seconds between two looks at what the handlers are doing

T = TypeVar("T")


def run(topology: Topology, stages: Sequence[str], settings: Settings, *, web_port: int = 0) -> int:
    """Run `stages` (none: all) of a topology until SIGTERM or SIGINT. Returns the exit code: 0, or 1 after a failure.

    `web_port` serves `/health`, `/ready` and `/metrics`; 0 takes a free one. Raises `SetupError` for what can be seen before
    the start.
    """
    if not settings.bootstrap:
        raise SetupError("no Kafka is known", fix="run `towpath up`, or set TOWPATH_BOOTSTRAP or --bootstrap")
    chosen = [topology.stage(name) for name in stages] or list(topology.stages)
    host = settings.variables.get("web_host", "127.0.0.1")
    port = web_port or free_port(host)
    return asyncio.run(_serve(topology, chosen, settings, (host, port)))


async def _serve(topology: Topology, stages: Sequence[Stage], settings: Settings, web: tuple[str, int]) -> int:
    tracing = Tracing.load(mask=masking(settings))
    faust = app(topology.name, web, settings)
    hosts = [_Host(topology, stage, settings, tracing) for stage in stages]
    for host in hosts:
        channel = Channel(faust, host.next)
        faust.agent(channel, name=host.stage.name, supervisor_strategy=CrashingSupervisor)(host.work)
    faust._extra_services += hosts  # started after the agents, stopped before them
    late = Spread(PROCESS)

    def ours() -> Iterator[Sample]:
        return of_worker(topology.name, hosts[0].version, late, tracing.exporter.counts if tracing is not None else None)

    add_pages(faust, [host.standing for host in hosts], ours)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    for host in hosts:
        host.stopped = stopped
    faust.finalize()
    await faust.start()
    watching = asyncio.create_task(watch_loop(late))
    log.info("%s: stages %s, http://%s:%d/health", topology.name, ", ".join(h.stage.name for h in hosts), *web)
    with (
        enlisted(settings.directory, topology.name, [host.stage.name for host in hosts], f"http://{web[0]}:{web[1]}"),
        collected_seldom(),
    ):
        await stopped.wait()
    watching.cancel()
    await asyncio.gather(*(host.drain() for host in hosts))  # at once: Faust stops one after the other
    await faust.stop()
    if tracing is not None:
        tracing.exporter.close()
    failures = [host.standing.failure for host in hosts if host.standing.failure]
    for failure in failures:
        log.error("%s", failure)
    if any(host.stuck_at_end for host in hosts):  # its thread would keep the process for as long as the handler likes
        logging.shutdown()
        os._exit(1)
    return 1 if failures else 0


class _Host(mode.Service):  # type: ignore[misc]  # mode has no types
    """One stage with its session, its thread and its ports."""

    def __init__(self, topology: Topology, stage: Stage, settings: Settings, tracing: Tracing | None) -> None:
        super().__init__()
        self.stage = stage
        self.stuck_at_end = False
        self.stopped = asyncio.Event()
        self.engine: Engine | None = None
        self._topology = topology
        self._settings = settings
        self._tracing = tracing
        self._instance = settings.instance or uuid.uuid4().hex[:8]
        self.version = code_version(settings, topology.where)
        self.standing = Standing(topology.name, stage, self._instance)
        self._session: KafkaSession | None = None
        self._thread = ThreadPoolExecutor(1, f"towpath-{stage.name}")
        self._resources = AsyncExitStack()
        self._begun = asyncio.Event()
        self._ended = asyncio.Event()
        self._ending = False
        self._polls = 0

    async def block(self, call: Callable[..., T], /, *arguments: Any) -> T:
        """Run a blocking call on the stage's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)

    # -- the agent ------------------------------------------------------------------------------------------------------

    async def work(self, batches: Any) -> None:
        """The agent: one transaction for each batch."""
        try:
            async for records in batches:
                if self.engine is not None:
                    await self.engine.handle(records)
        except TowpathError as error:
            self._fail(str(error))
        except Exception:
            log.exception("stage %s: a defect of the runtime", self.stage.name, extra={"stage": self.stage.name})
            self._fail("a defect of the runtime; see the log")
        finally:
            self._ended.set()

    async def next(self) -> list[Record]:
        """The next batch, when there is something to do."""
        await self._begun.wait()
        engine = self.engine
        while engine is not None and not self._ending:
            try:
                records = await engine.poll()
            except TowpathError as error:
                self._fail(str(error))
                break
            self.standing.member_since = self.standing.member_since or time.monotonic()
            self._polls += 1
            if records or engine.due():
                return records
        self._ended.set()
        await asyncio.Event().wait()  # nothing more comes; the agent is cancelled here
        return []

    def _fail(self, reason: str) -> None:
        self.standing.failure = f"stage {self.stage.name} has stopped: {reason}"
        self._ending = True
        self.stopped.set()

    # -- life -----------------------------------------------------------------------------------------------------------

    async def on_start(self) -> None:
        """Open ports, store and session. A failure is the stage's, and ends the worker."""
        try:
            self.engine = self.standing.engine = await self._build()
        except TowpathError as error:
            self._fail(str(error))
        self._begun.set()

    async def _build(self) -> Engine:
        stage, name = self.stage, self._topology.name
        codec = Codec((*stage.events, Case, Receipt), FolderRegistry(self._topology.schemas))
        resources = self.standing.opened
        for port in stage.ports:
            opened = port.connect(self._settings)
            if isinstance(opened, AbstractAsyncContextManager):
                resources[port] = await self._resources.enter_async_context(opened)
            else:
                resources[port] = self._resources.enter_context(opened)
        effects = None
        if stage.store is not None:
            effects = Inbox(self._settings.store, names.group(name, stage.name), stage.store, time_limit=stage.time_limit)
            await self.block(effects.open)
            self._resources.callback(effects.close)
            self.standing.inbox = effects
        table = names.retry(name, stage.name)
        self._session = self.standing.session = KafkaSession(
            Inputs(stage.topics[0], stage.topics[1:], table),
            group=names.group(name, stage.name),
            transactional_id=names.transactional_id(name, stage.name, self._instance),
            properties={"bootstrap.servers": self._settings.bootstrap, **self._settings.kafka},
            outputs=[*(event_info(cls).topic for cls in stage.emits), table, names.receipts(name)],
        )
        traces = None
        if self._tracing is not None:
            traces = self._tracing.stage(name, stage, self._instance, self.version, self._settings.store)
        session, processor, watched = parts(traces, stage, codec, resources, self._session, effects)
        return Engine(
            stage,
            session,
            processor,
            table,
            DeadLetters(name, stage.name, codec, who=f"{stage.name}/{self._instance}"),
            Receipts(name, stage.name, codec, instance=self._instance, version=self.version),
            effects=watched,
            clock=time.time,
            block=self.block,
            tally=Tally(ends([cls for cls in self._topology.sinks if cls in stage.emits], codec)),
        )

    async def drain(self) -> None:
        """Let the cycle at work end, or give it up; then leave the group."""
        self._ending = True
        self._begun.set()
        try:
            await asyncio.wait_for(self._ended.wait(), _DRAIN)
        except TimeoutError:
            log.warning("stage %s: the cycle at work is left to the next start: no end in %.0f s", self.stage.name, _DRAIN)
        if self._session is not None:
            self._session.stop()
            try:
                await asyncio.wait_for(self.block(self._session.close), _LEAVE)
            except TimeoutError:
                self.stuck_at_end = True

    async def on_stop(self) -> None:
        """Close the ports."""
        if not self.stuck_at_end:
            await self._resources.aclose()
            self._thread.shutdown(wait=False, cancel_futures=True)

    @mode.Service.task  # type: ignore[untyped-decorator]  # mode has no types
    async def _watch(self) -> None:
        """See to it that neither a record keeps a handler for ever, nor a broker or database the stage's thread."""
        pulse = Pulse(self.stage.time_limit)
        async for _ in self.itertimer(_WATCH, name=f"watch-{self.stage.name}"):
            current = self.engine.current if self.engine is not None else None
            self.standing.stuck = pulse.look(self._polls, current, time.monotonic())
