"""`towpath db`: the database that the stages keep their effects in.

The one rule: only `upgrade` changes tables, and only `prune` removes rows.
"""
# ruff: noqa: D301, PLC0415  # `\b` is click's mark for text to be left as it is; slow imports wait until they are needed

import click

from streams.cli.invocation import invocation, say, table
from streams.cli.options import dry_run


@click.group()
def db() -> None:
    """Bring the stages' database up to date, and keep it small.

    The database is TOWPATH_STORE: SQLite (the default) or PostgreSQL. It holds the tables of a topology's stores and the
    inbox, which remembers what each event led to, so that an event that comes again does nothing.
    """


@db.command()
@click.argument("module")
def upgrade(module: str) -> None:
    """Make the tables as the topology needs them. A second call does nothing.

    Run it before the workers of a new version start; those of the old one may go on meanwhile. All of it happens, or none.

    \b
    Examples:
      towpath db upgrade topologies.orders
      TOWPATH_STORE=postgresql://user:password@host/shop towpath db upgrade topologies.orders
    """
    from streams import migrate
    from streams.topology import load

    before = migrate.upgrade(invocation().settings().store, migrate.stores(load(module)))
    changed = [state for state in before if state.pending]
    table(("store", "was", "now"), [(state.store, state.now or "nothing", state.wanted) for state in changed])
    say(f"{len(changed)} of {len(before)} stores changed" if changed else f"all {len(before)} stores are as they should be")


@db.command()
@click.argument("module")
def status(module: str) -> None:
    """Show where the tables are. Exit 1 if there is anything to do.

    `differs` lists what is not as the program declares it although all revisions have run: one has been forgotten.

    \b
    Example:
      towpath db status topologies.orders
    """
    from streams import migrate
    from streams.topology import load

    url, stores = invocation().settings().store, migrate.stores(load(module))
    rows, todo = [], False
    differences = {store.name: "; ".join(migrate.differences(url, store)) for store in stores}
    for state in migrate.status(url, stores):
        differs, word = "", "up to date"
        if state.pending:
            word = "behind"
        elif state.unknown:
            word = "ahead of this program"
        elif differs := differences.get(state.store, ""):
            word = "differs"
        rows.append((state.store, state.now or "nothing", state.wanted, word, differs))
        todo = todo or word in ("behind", "differs")
    table(("store", "revision", "wanted", "state", "differs"), rows)
    click.get_current_context().exit(1 if todo else 0)


@db.command()
@click.argument("module")
@click.option(
    "--older-than", metavar="AGE", default="7d", show_default=True, help="Of events handled longer ago: 12h, 30d; at least 1h."
)
@dry_run
def prune(module: str, older_than: str, *, dry_run: bool) -> None:
    """Forget events that have been handled and cannot come again.

    A row of the inbox goes when it is older than AGE, its record lies below what its stage has committed to Kafka, and the
    record does not wait for a retry. So a row that is still needed stays, however old. AGE is how long a copy of an event
    that a producer sends once more is known as one. What a store remembers besides goes by age too, as the store says.
    Safe while workers run.

    \b
    Examples:
      towpath db prune topologies.orders --older-than 30d --dry-run
      towpath db prune topologies.orders
    """
    from datetime import UTC, datetime

    from streams.ops.cases import moment
    from streams.ops.prune import prune as forget
    from streams.topology import load

    topology = load(module)
    before = moment(older_than, datetime.now(UTC)).timestamp()
    found = forget(topology, invocation().cluster(), before, dry_run=dry_run)
    title = "would go" if dry_run else "gone"
    table(("stage", "old", title, "kept"), [(p.stage, str(p.old), str(p.pruned), str(p.old - p.pruned)) for p in found])
