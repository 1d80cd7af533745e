"""The jars of the real Kafka, and of Zipkin: pinned in `jars.lock`, downloaded once, shared by demo, tests and daily use.

The one rule: no jar is handed out whose SHA-256 is not the one in the lock.

`python -m streams.jars` resolves the coordinates anew and prints the lock.
"""

import fcntl
import hashlib
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec
import requests
from jgo.config import GlobalSettings
from jgo.constants import MAVEN_CENTRAL_URL
from jgo.maven import MavenContext

from streams.errors import SetupError

Say = Callable[[str], None]
"""Takes one line of progress."""

VERSION: Final = "4.3.1"
ROOTS: Final = (
    f"org.apache.kafka:kafka-clients:{VERSION}",  # first: else another jar's wish mediates it to an older version
    f"org.apache.kafka:kafka_2.13:{VERSION}",
    "org.apache.logging.log4j:log4j-core:2.26.1",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.26.1",
)
ZIPKIN: Final = "io.zipkin:zipkin-server:3.5.1:exec"
"""One jar with all that it needs: it is on nobody's class path, and fetched when somebody wants to see traces."""
_HEADER: Final = "# Written by `make lock`: Maven coordinate, file, SHA-256; separated by tabs.\n"
_TRIES: Final = 3
_DOWNLOADS: Final = 4  # at once
_TIMEOUT: Final = 30  # seconds without a byte

log = logging.getLogger(__name__)


class Jar(msgspec.Struct, frozen=True):
    """One line of the lock: `group:artifact:version[:classifier]`, the file's name, its SHA-256 in hex."""

    coordinate: str
    file: str
    sha256: str


def locked_jars() -> list[Jar]:
    """The jars of the lock, in class path order."""
    text = resources.files("streams").joinpath("jars.lock").read_text("utf-8")
    return [Jar(*line.split("\t")) for line in text.splitlines() if line and not line.startswith("#")]


def cache_directory() -> Path:
    """Where downloads are kept: `$TOWPATH_CACHE`, else `$XDG_CACHE_HOME`, else `~/.cache`; in it `towpath`."""
    named = os.environ.get("TOWPATH_CACHE") or os.environ.get("XDG_CACHE_HOME")
    return (Path(named) if named else Path.home() / ".cache").expanduser().absolute() / "towpath"


def class_path(say: Say = log.info) -> list[Path]:
    """Kafka's verified jars in the cache; what is missing or damaged is downloaded first, by one process at a time.

    Raises `SetupError` when the cache cannot be written, the registry cannot be reached, or it serves other bytes.
    """
    return _verified([jar for jar in locked_jars() if jar.coordinate != ZIPKIN], f"Kafka {VERSION}", say)


def zipkin_jar(say: Say = log.info) -> Path:
    """Zipkin's, as `class_path`."""
    return _verified([jar for jar in locked_jars() if jar.coordinate == ZIPKIN], "Zipkin", say)[0]


def _verified(jars: Sequence[Jar], what: str, say: Say) -> list[Path]:
    folder = cache_directory() / "jars"
    try:
        with exclusive(folder / ".lock"):
            missing = [jar for jar in jars if sha256(folder / jar.file) != jar.sha256]
            if missing:
                say(f"downloading {len(missing)} jars of {what} to {folder}")
                _download(missing, folder, say)
    except OSError as error:
        raise SetupError(
            f"cannot use the cache: {error}", where=str(folder), fix="free the space or name another folder in TOWPATH_CACHE"
        ) from error
    return [folder / jar.file for jar in jars]


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file `path` (made if missing); waits while another process or thread holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def sha256(path: Path) -> str | None:
    """The file's SHA-256 in hex, or None if there is no such file."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None


def _download(jars: Sequence[Jar], folder: Path, say: Say) -> None:
    incoming = folder / ".incoming"
    shutil.rmtree(incoming, ignore_errors=True)  # what a killed process has left
    context = _maven(incoming)
    pool = ThreadPoolExecutor(_DOWNLOADS)
    try:
        arrived = pool.map(lambda jar: _fetch(context, jar), jars)
        for number, (jar, path) in enumerate(zip(jars, arrived, strict=True), start=1):
            path.replace(folder / jar.file)
            say(f"[{number}/{len(jars)}] {jar.file}")
    finally:
        pool.shutdown(cancel_futures=True)
        shutil.rmtree(incoming, ignore_errors=True)


def _maven(repository: Path) -> MavenContext:
    """Maven as jgo sees it: the repositories of the user's jgo settings too, and one named `central` instead of the default."""
    repositories = {"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories}
    return MavenContext(repo_cache=repository, remote_repos=repositories, timeout=_TIMEOUT)


def _fetch(context: MavenContext, jar: Jar) -> Path:
    artifact = context.create_dependency(jar.coordinate).artifact
    problem: object = None
    for _ in range(_TRIES):
        try:
            path: Path = artifact.resolve()
        except (requests.RequestException, RuntimeError) as error:  # RuntimeError is jgo's word for "no repository has it"
            problem = error
            continue
        found = sha256(path)
        if found == jar.sha256:
            return path
        problem = f"SHA-256 is {found}, the lock says {jar.sha256}"
        path.unlink()  # jgo would take what is there
    raise SetupError(
        f"cannot download {jar.coordinate}: {problem}",
        where=jar.file,
        fix="check the network and proxy, or name a Maven repository that has it as `central` under [repositories] in jgo.conf",
    )


def resolve() -> list[Jar]:
    """The jars that `ROOTS` need by Maven's rules, and Zipkin's, downloaded to be hashed: what the lock is written from."""
    with TemporaryDirectory() as folder:
        context = _maven(Path(folder))
        roots, others = context.resolver.resolve([context.create_dependency(root) for root in ROOTS])
        jars = []
        for artifact in (dependency.artifact for dependency in (*roots, *others)):
            coordinate = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
            jars.append(Jar(coordinate, artifact.filename, sha256(artifact.resolve()) or ""))
        zipkin = context.create_dependency(ZIPKIN).artifact
        return [*jars, Jar(ZIPKIN, zipkin.filename, sha256(zipkin.resolve()) or "")]


if __name__ == "__main__":
    sys.stdout.write(_HEADER)
    sys.stdout.writelines(f"{jar.coordinate}\t{jar.file}\t{jar.sha256}\n" for jar in resolve())
