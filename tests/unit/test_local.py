import gc
import hashlib
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from streams import jars
from streams.errors import SetupError
from streams.jars import Jar, class_path, locked_jars
from streams.local import LocalKafka, down, status

JARS = {"a-1.jar": b"first", "b-2.jar": b"second"}
LOCK = [
    Jar("org.example:a:1", "a-1.jar", hashlib.sha256(b"first").hexdigest()),
    Jar("org.example:b:2", "b-2.jar", hashlib.sha256(b"second").hexdigest()),
]
JGO_LEAKS = pytest.mark.filterwarnings("ignore::ResourceWarning")  # jgo drops the response of a failed request unclosed


class Registry(http.server.ThreadingHTTPServer):
    """A Maven repository on the loopback interface. `served` counts the jars that went out."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.jars = dict(JARS)
        self.served = 0


class Answer(http.server.BaseHTTPRequestHandler):
    server: Registry

    def do_GET(self) -> None:
        body = self.server.jars.get(self.path.rsplit("/", 1)[1], b"")
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.server.served += bool(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """The registry that the user's jgo settings name, an empty cache, and a lock of two jars."""
    with Registry() as server:
        settings = tmp_path / "jgo.conf"
        settings.write_text(f"[repositories]\ncentral = http://127.0.0.1:{server.server_port}\n")
        monkeypatch.setenv("JGO_CONFIG_FILE", str(settings))
        monkeypatch.setenv("TOWPATH_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(jars, "locked_jars", lambda: LOCK)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
        gc.collect()  # while their warning is still ignored: see JGO_LEAKS


def test_the_lock_pins_every_jar_by_hash_and_names_no_registry() -> None:
    locked = locked_jars()
    assert [jar.coordinate for jar in locked[: len(jars.ROOTS)]] == list(jars.ROOTS)
    assert all(len(bytes.fromhex(jar.sha256)) == 32 for jar in locked)
    assert len({jar.file for jar in locked}) == len(locked)
    assert "://" not in Path(jars.__file__).with_name("jars.lock").read_text()


def test_jars_are_downloaded_once_for_all_who_ask_at_the_same_time(registry: Registry) -> None:
    with ThreadPoolExecutor(4) as pool:
        paths, *others = pool.map(lambda _: class_path(), range(4))
    assert [path.read_bytes() for path in paths] == list(JARS.values())
    assert others == [paths] * 3
    assert registry.served == len(JARS)


def test_a_damaged_jar_in_the_cache_is_replaced(registry: Registry) -> None:
    path = class_path()[0]
    path.write_bytes(b"fir")
    class_path()
    assert path.read_bytes() == b"first"
    assert registry.served == len(JARS) + 1


def test_a_jar_with_another_hash_is_refused(registry: Registry, tmp_path: Path) -> None:
    registry.jars["b-2.jar"] = b"evil"
    with pytest.raises(SetupError, match=hashlib.sha256(b"evil").hexdigest()) as caught:
        class_path()
    assert "org.example:b:2" in caught.value.what
    assert not list(tmp_path.rglob("b-2.jar"))


@JGO_LEAKS
def test_a_registry_that_cannot_be_reached_or_lacks_a_jar_is_named_with_what_to_do(registry: Registry) -> None:
    del registry.jars["a-1.jar"]
    with pytest.raises(SetupError, match=r"cannot download org\.example:a:1: .*jgo\.conf"):
        class_path()
    registry.shutdown()
    registry.server_close()
    with pytest.raises(SetupError, match=r"cannot download org\.example:a:1: .*jgo\.conf"):
        class_path()


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TOWPATH_CACHE", str(tmp_path / "file"))
    with pytest.raises(SetupError, match="TOWPATH_CACHE"):
        class_path()


def test_a_process_that_has_got_the_pid_of_a_dead_broker_is_let_alone(tmp_path: Path) -> None:
    state = tmp_path / "kafka" / "kafka.json"
    state.parent.mkdir()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        state.write_text(json.dumps({"pid": stranger.pid, "port": 20_000, "controller_port": 20_001}))
        assert not status(tmp_path)["running"]
        assert not down(tmp_path)["running"]
        LocalKafka(tmp_path / "kafka").kill()
        assert stranger.poll() is None
        stranger.communicate(b"\n")
    assert stranger.returncode == 0


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"pid": "x"}', '{"pid": 1, "port": null, "controller_port": 2}', "\udcff"]
)
def test_a_state_file_that_is_damaged_is_no_broker(tmp_path: Path, text: str) -> None:
    state = tmp_path / "kafka" / "kafka.json"
    state.parent.mkdir()
    state.write_text(text, "utf-8", "surrogateescape")
    assert status(tmp_path)["running"] is False
    assert status(tmp_path)["bootstrap"] is None
