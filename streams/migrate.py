"""Migrations: what a database's tables are, and what they have to become.

The one rule: tables change here and nowhere else; a worker that finds the database behind says so and does not start.

Each store has a folder of Alembic revisions and its own version table, `<store>_version`. The inbox is the runtime's own.
"""

import logging
import warnings
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import msgspec
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from streams import database
from streams.errors import SetupError
from streams.stage import Store
from streams.topology import Topology

log = logging.getLogger("towpath.migrate")

_HERE: Final = Path(__file__).parent / "migrations"
INBOX: Final = "inbox"


class State(msgspec.Struct, frozen=True):
    """Where a store's tables are: `now` (none: nothing there) and `wanted` are revisions, `pending` what lies between.

    `unknown`: the database has a revision that this program does not know, because a newer one has upgraded it.
    """

    store: str
    now: str | None
    wanted: str
    pending: tuple[str, ...]

    @property
    def unknown(self) -> bool:
        """Whether the database is ahead of this program."""
        return self.now is not None and self.now != self.wanted and not self.pending


def stores(topology: Topology) -> list[Store[Any]]:
    """The stores of a topology's stages, each once."""
    return list(dict.fromkeys(stage.store for stage in topology.stages if stage.store is not None))


def upgrade(url: str, stores: Iterable[Store[Any]]) -> list[State]:
    """Bring the inbox and these stores up to date, in one transaction. Returns where each was before.

    Two that do so at once take turns; the second finds nothing to do. Raises `SetupError`.
    """
    engine = database.connect(url)
    try:
        with database.opening(engine) as connection:
            database.take_turn(connection, "migrations")
            before = [_state(connection, name, folder) for name, folder in _folders(stores)]
            for state, (name, folder) in zip(before, _folders(stores), strict=True):
                if state.pending:
                    config = _config(folder)
                    config.attributes |= {"connection": connection, "version_table": f"{name}_version"}
                    command.upgrade(config, "head")
    finally:
        engine.dispose()
    return before


def status(url: str, stores: Iterable[Store[Any]]) -> list[State]:
    """Where the inbox and these stores are. Changes nothing. Raises `SetupError`."""
    engine = database.connect(url)
    try:
        with database.opening(engine) as connection:
            return [_state(connection, name, folder) for name, folder in _folders(stores)]
    finally:
        engine.dispose()


def check(connection: Connection, stores: Iterable[Store[Any]]) -> None:
    """Raise `SetupError` if the database is behind. One that is ahead is taken: an upgrade comes before its program."""
    for name, folder in _folders(stores):
        state = _state(connection, name, folder)
        if state.unknown:
            log.warning("the database's %s is at %s, which is newer than this program's %s", name, state.now, state.wanted)
        elif state.pending:
            raise SetupError(
                f"the database is behind: {name} is at {state.now or 'nothing'} and has to be at {state.wanted}",
                where="TOWPATH_STORE",
                fix="run `towpath db upgrade MODULE`",
            )


def differences(url: str, store: Store[Any]) -> list[str]:
    """Where the database's tables are not as `store.tables` declares them: a revision that somebody forgot."""
    engine = database.connect(url)
    try:
        with database.opening(engine) as connection:
            names = set(store.tables.tables)
            context = MigrationContext.configure(
                connection, opts={"include_name": lambda name, kind, _: kind != "table" or name in names}
            )
            return [str(difference) for difference in compare_metadata(context, store.tables)]
    finally:
        engine.dispose()


def _folders(stores: Iterable[Store[Any]]) -> list[tuple[str, Path]]:
    found = {INBOX: _HERE / "inbox"}
    for store in stores:
        if found.setdefault(store.name, store.migrations) != store.migrations:
            raise SetupError(f"two stores are named {store.name!r}", fix="give each a name of its own")
    return list(found.items())


def _state(connection: Connection, name: str, folder: Path) -> State:
    now = MigrationContext.configure(connection, opts={"version_table": f"{name}_version"}).get_current_revision()
    revisions = _revisions(folder)
    wanted = revisions[-1]
    if now is not None and now not in revisions:
        return State(name, now, wanted, ())
    return State(name, now, wanted, tuple(revisions[revisions.index(now) + 1 :] if now else revisions))


@lru_cache(maxsize=32)
def _revisions(folder: Path) -> Sequence[str]:
    """A store's revisions, oldest first."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # that a revision's predecessor is missing is no more than a warning to Alembic
            script = ScriptDirectory.from_config(_config(folder))
            script.get_current_head()  # raises if there is more than one
            found = [script.revision for script in script.walk_revisions()][::-1]
    except Exception as error:  # the folder's files are run, and may fail as they like
        raise SetupError(f"these are no revisions: {error}", where=str(folder)) from error
    if not found:
        raise SetupError("a store's folder of revisions is empty", where=str(folder), fix="write its first revision, v0001.py")
    return found


def _config(folder: Path) -> Config:
    config = Config()
    for name, value in (("script_location", _HERE), ("version_locations", folder), ("path_separator", "newline")):
        config.set_main_option(name, str(value).replace("%", "%%"))
    return config
