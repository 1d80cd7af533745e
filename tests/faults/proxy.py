"""A TCP proxy with faults to order, for one address of one broker.

The one rule: bytes are held back or a connection is ended, never changed or skipped: what TCP does to nobody, this does not.

A fault (`Cut`) holds for everybody or for certain processes only: whoever connects is known by its port, and that by the
process table. So one proxy in front of a listener can cut a broker off from one worker, or from the other brokers alone.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Collection, Coroutine, Iterator
from typing import Any, Final, Literal, Self

import msgspec
import psutil

Fault = Literal["refuse", "black-hole", "delay", "reset", "half-open", "one-way"]
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s; a close is an RST then
_CHUNK: Final = 65_536
_STORM: Final = 1.0  # seconds between two resets


class Cut(msgspec.Struct, frozen=True, eq=False):
    """One fault. `pids`: whom it befalls; None: everybody. `delay` is in seconds, per chunk and direction.

    `refuse`: connections end, new ones at once. `black-hole`: nothing gets through either way. `one-way`: what the broker says
    does not. `half-open`: the broker's side of every connection is gone and the client is not told. `reset`: again and again.
    """

    fault: Fault
    pids: frozenset[int] | None = None
    delay: float = 0.0


class _Link:
    """One connection through the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.upstream: asyncio.StreamWriter | None = None
        self.port = int(writer.get_extra_info("peername")[1])
        self._cuts: set[Cut] = set()

    def befallen(self, cut: Cut) -> bool:
        """Whether a fault is meant for whoever is at the other end."""
        return cut in self._cuts

    def meet(self, cut: Cut, ports: Collection[int] | None) -> None:
        """Learn of a fault that is meant for whoever comes from `ports`; None: from any."""
        if ports is None or self.port in ports:
            self._cuts.add(cut)

    def end(self, *, reset: bool = False) -> None:
        """End both sides."""
        for writer in (self.writer, self.upstream):
            if writer is not None:
                if reset:
                    with contextlib.suppress(OSError):  # it has ended already
                        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                writer.transport.abort()


class Proxy:
    """Listens on a port of its own for `target` on this machine."""

    def __init__(self, loop: "Loop", target: int, port: int) -> None:
        self.port = port
        self._loop = loop
        self._target = target
        self._cuts: list[Cut] = []
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        loop.call(self._listen())

    @contextlib.contextmanager
    def cut(self, fault: Fault, pids: Collection[int] | None = None, delay: float = 0.0) -> Iterator[None]:
        """Let a fault hold while this is entered."""
        cut = Cut(fault, None if pids is None else frozenset(pids), delay)
        self._loop.call(self._begin(cut))
        try:
            yield
        finally:
            self._loop.call(self._end(cut))

    def close(self) -> None:
        """Stop listening and end every connection."""
        self._loop.call(self._close())

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, backlog=200)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        for link in list(self._links):
            link.end()

    async def _begin(self, cut: Cut) -> None:
        self._cuts.append(cut)
        ports = await _victims(cut)
        for link in self._links:
            link.meet(cut, ports)
        hit = [link for link in self._links if link.befallen(cut)]
        if cut.fault == "refuse":
            for link in hit:
                link.end()
        elif cut.fault == "half-open":
            for link in hit:
                if link.upstream is not None:
                    link.upstream.transport.abort()
        elif cut.fault == "reset":
            self._spawn(self._storm(cut))
        self._stir()

    async def _end(self, cut: Cut) -> None:
        self._cuts.remove(cut)
        if cut.fault == "half-open":  # whatever was cut stays dead: only its next word is answered, with an end
            for link in list(self._links):
                if link.upstream is None or link.upstream.transport.is_closing():
                    link.end(reset=True)
        self._stir()

    async def _storm(self, cut: Cut) -> None:
        while cut in self._cuts:
            for link in [link for link in self._links if link.befallen(cut)]:
                link.end(reset=True)
            await asyncio.sleep(_STORM)

    def _stir(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- connections ----------------------------------------------------------------------------------------------------

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._spawn(self._serve(_Link(reader, writer)))

    async def _serve(self, link: _Link) -> None:
        self._links.add(link)
        try:
            for cut in list(self._cuts):
                link.meet(cut, await _victims(cut))
            if any(cut.fault == "refuse" and link.befallen(cut) for cut in self._cuts):
                return
            await self._let_through(link, {"black-hole", "half-open"})
            reader, link.upstream = await asyncio.open_connection("127.0.0.1", self._target)
            out = asyncio.ensure_future(self._pump(link, link.reader, link.upstream, {"black-hole"}))
            back = asyncio.ensure_future(self._pump(link, reader, link.writer, {"black-hole", "one-way"}))
            try:
                await asyncio.wait({out, back}, return_when=asyncio.FIRST_COMPLETED)
                await self._let_through(link, {"half-open"})  # else the end of one side is told to the other
            finally:
                out.cancel()
                back.cancel()
                await asyncio.gather(out, back, return_exceptions=True)
        except OSError:
            pass  # the broker is not there, as the client will see
        finally:
            self._links.discard(link)
            link.end()

    async def _let_through(self, link: _Link, faults: Collection[Fault]) -> None:
        while any(cut.fault in faults and link.befallen(cut) for cut in self._cuts):
            await self._changed.wait()

    async def _pump(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, held: Collection[Fault]
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                for cut in [cut for cut in self._cuts if cut.fault == "delay" and link.befallen(cut)]:
                    await asyncio.sleep(cut.delay)
                await self._let_through(link, held)
                writer.write(data)
                await writer.drain()


class Loop:
    """The thread that all proxies run on."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.call(_finish())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def call(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it there and wait for its end."""
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)


async def _finish() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _victims(cut: Cut) -> set[int] | None:
    """The ports that a fault is meant for. Not looked up on the loop's thread: what brokers say to each other passes there."""
    return None if cut.pids is None else await asyncio.to_thread(_ports, cut.pids)


def _ports(pids: Collection[int]) -> set[int]:
    """The ports of this machine that these processes have connections from."""
    ports = set()
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):  # it was killed meanwhile
            ports |= {each.laddr.port for each in psutil.Process(pid).net_connections("tcp") if each.laddr}
    return ports
