"""`towpath graph` and `towpath schemas`: what a topology says of itself and promises to others, without a cluster.

The one rule: nothing here connects to anything.
"""
# ruff: noqa: D301, PLC0415  # `\b` is click's mark for text to be left as it is; slow imports wait until they are needed

from pathlib import Path

import click

from streams.cli.invocation import complain, say


def schemas_folder(given: Path | None) -> Path:
    """The folder of schemas: the one that was named, else ./schemas, else the one that came with the installation."""
    from streams.registry import default_folder

    here = Path("schemas")
    return given or (here if here.is_dir() else default_folder())


folder = click.option(
    "--schemas",
    "given",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The folder of schemas. Default: ./schemas, else the one that came with Towpath.",
)


@click.command()
@click.argument("module")
def graph(module: str) -> None:
    """Print a topology's graph as a Mermaid flowchart.

    \b
    Example:
      towpath graph topologies.orders > graph.mmd
    """
    from streams.topology import load, mermaid

    click.echo(mermaid(load(module)), nl=False)


@click.group()
def schemas() -> None:
    """Check the contracts, and release new versions of them.

    The folder holds <group>/<Record>/v<number>.avsc and LOCK, where each released version has its id and hash. A released
    version never changes: records with it are on topics. To change a record, add the next version beside it.
    """


@schemas.command()
@folder
def check(given: Path | None) -> None:
    """Compare all versions of each record, in both directions. Exit 1 if some cannot read each other.

    Also finds released files that were changed, and ones that are not released yet.
    """
    from streams.registry import FolderRegistry
    from streams.release import check_schemas

    root = schemas_folder(given)
    problems = check_schemas(root)
    for problem in problems:
        complain(problem)
    if problems:
        click.get_current_context().exit(1)
    FolderRegistry(root)
    say(f"the schemas in {root} are compatible and as they were released")


@schemas.command()
@folder
@click.option("--dry-run", is_flag=True, help="Show what would be released, and write nothing.")
def lock(given: Path | None, *, dry_run: bool) -> None:
    """Release new versions: give each an id in LOCK. Refuses a changed or missing one, and any that is incompatible.

    The runtime's own schemas (cases) are copied into the folder if it lacks them: all ids of a flow come from one LOCK.

    \b
    Example:
      cp schemas/orders/OrderAccepted/v1.avsc schemas/orders/OrderAccepted/v2.avsc   # and edit it
      towpath schemas lock
    """
    from streams.release import bring_ours, lock_schemas

    root = schemas_folder(given)
    if not dry_run:
        bring_ours(root)
    new = lock_schemas(root, dry_run=dry_run)
    for line in new:
        click.echo(line)
    say(f"{len(new)} new version{'' if len(new) == 1 else 's'}{' would be' if dry_run else ''} released in {root}")
