"""The proxy of the fault suite: each fault is what it says, for whom it is meant, and over when it ends."""

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.faults.proxy import Loop, Proxy
from tests.support.workers import free_port

_SOON = 0.3  # seconds in which nothing is to come
_DEADLINE = 20.0


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """In front of a server that says what it hears."""
    with socket.create_server(("127.0.0.1", 0)) as server, Loop() as loop:
        threading.Thread(target=_serve, args=(server,), daemon=True).start()
        made = Proxy(loop, server.getsockname()[1], free_port())
        yield made
        made.close()
        server.shutdown(socket.SHUT_RDWR)


def _serve(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=_echo, args=(connection,), daemon=True).start()


def _echo(connection: socket.socket) -> None:
    with connection:
        try:
            while data := connection.recv(1000):
                connection.sendall(data)
        except OSError:
            return


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=_DEADLINE)


def says(client: socket.socket, text: bytes) -> bytes:
    client.sendall(text)
    return client.recv(1000)


def ended(client: socket.socket) -> bool:
    try:
        return client.recv(1000) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("fault", ["black-hole", "one-way"])
def test_nothing_comes_back_until_it_is_over_and_then_everything_does(proxy: Proxy, fault: str) -> None:
    with connect(proxy) as client:
        assert says(client, b"one") == b"one"
        with proxy.cut(fault):  # type: ignore[arg-type]  # one of them
            client.sendall(b"two")
            client.settimeout(_SOON)
            with pytest.raises(TimeoutError):
                client.recv(1000)
            client.settimeout(_DEADLINE)
        assert client.recv(1000) == b"two"


@pytest.mark.parametrize("fault", ["refuse", "reset"])
def test_a_connection_ends_and_a_new_one_lives_when_it_is_over(proxy: Proxy, fault: str) -> None:
    with connect(proxy) as client:
        assert says(client, b"one") == b"one"
        with proxy.cut(fault):  # type: ignore[arg-type]  # one of them
            assert ended(client)
    with connect(proxy) as client:
        assert says(client, b"three") == b"three"


def test_half_open_is_silence_and_then_an_end(proxy: Proxy) -> None:
    with connect(proxy) as client:
        assert says(client, b"one") == b"one"
        with proxy.cut("half-open"):
            client.settimeout(_SOON)
            with pytest.raises(TimeoutError):
                client.recv(1000)
            client.settimeout(_DEADLINE)
        assert ended(client)


def test_a_fault_befalls_only_whom_it_is_meant_for(proxy: Proxy) -> None:
    with connect(proxy) as client:
        with proxy.cut("black-hole", [os.getppid()]):
            assert says(client, b"one") == b"one"
        with proxy.cut("black-hole", [os.getpid()]):
            client.sendall(b"two")
            client.settimeout(_SOON)
            with pytest.raises(TimeoutError):
                client.recv(1000)
