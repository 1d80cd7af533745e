"""`towpath up|down|status` and `towpath topics`: the Kafka that a flow runs on, and what must be there.

The one rule: nothing here deletes data.
"""
# ruff: noqa: D301, PLC0415  # `\b` is click's mark for text to be left as it is; slow imports wait until they are needed

import click

from streams.cli.invocation import interactive, invocation, json_line, say, table

as_json = click.option("--json", "json_", is_flag=True, help="Print one JSON object.")


@click.command()
@click.option("--postgres", is_flag=True, help="A local PostgreSQL as well, in .towpath/postgres.")
@click.option("--traces", is_flag=True, help="A local Zipkin as well, to look at traces; they are in its memory.")
@as_json
def up(*, postgres: bool, traces: bool, json_: bool) -> None:
    """Start a local Kafka and leave it running in the background.

    One real broker, for this directory: its data and log are in .towpath/kafka (TOWPATH_DIR). It runs on a Java that came
    with the installation; the first start fetches Kafka's jars. Started twice it is still one; data survive `down`.

    PostgreSQL, if asked for, came with the installation too. It listens on a Unix socket only. As root it runs as the user
    `pgserver`, for whom the folders on the way to its data are made readable.

    \b
    Examples:
      towpath up
      export TOWPATH_BOOTSTRAP=$(towpath up --json | jq -r .bootstrap)
      export TOWPATH_STORE=$(towpath up --postgres --json | jq -r .postgres.url)
      export OTEL_EXPORTER_ZIPKIN_ENDPOINT=$(towpath up --traces --json | jq -r .traces.endpoint)
    """
    from streams import local, viewer
    from streams import postgres as database

    directory = invocation().settings().directory
    state = local.up(directory, say=say)
    there = database.up(directory, say=say) if postgres else database.status(directory)
    _show(state, there, viewer.up(directory, say=say) if traces else viewer.status(directory), json_)


@click.command()
@as_json
def down(*, json_: bool) -> None:
    """Stop the local Kafka, and PostgreSQL and Zipkin if they run. Data stay for the next `towpath up`; traces do not."""
    from streams import local, postgres, viewer

    directory = invocation().settings().directory
    _show(local.down(directory), postgres.down(directory), viewer.down(directory), json_)


@click.command()
@as_json
def status(*, json_: bool) -> None:
    """Show what runs here: the local Kafka, PostgreSQL and Zipkin, their addresses and logs."""
    from streams import local, postgres, viewer

    directory = invocation().settings().directory
    _show(local.status(directory), postgres.status(directory), viewer.status(directory), json_)


def _show(state: dict[str, object], postgres: dict[str, object], traces: dict[str, object], json_: bool) -> None:
    if json_ or not interactive():
        click.echo(json_line({"bootstrap": state["bootstrap"], **state, "postgres": postgres, "traces": traces}))
        return
    if traces["running"]:
        click.echo(f"Zipkin runs at {click.style(str(traces['url']), bold=True)} (log: {traces['log']})")
        click.echo(f"  to have traces: export OTEL_EXPORTER_ZIPKIN_ENDPOINT={traces['endpoint']}")
    if postgres["running"]:
        click.echo(f"PostgreSQL runs at {click.style(str(postgres['url']), bold=True)} (log: {postgres['log']})")
    if state["running"]:
        click.echo(f"Kafka {state['version']} runs at {click.style(str(state['bootstrap']), bold=True)} (log: {state['log']})")
    else:
        click.echo("no local Kafka runs; start it with `towpath up`")


@click.group()
def topics() -> None:
    """Compare a topology's topics with the cluster, and make them.

    A topology has one topic per event, per stage one for retries and one for dead letters, and two of its own for cases
    and receipts. `apply` creates what is missing and sets what differs. It never deletes a topic, adds partitions or
    shortens a retention: what would need that is reported and left to you.
    """


@topics.command("plan")
@click.argument("module")
def plan_topics(module: str) -> None:
    """Show what `apply` would do. Exit 1 if there is anything to do.

    \b
    Example:
      towpath topics plan topologies.orders
    """
    from streams import topics as cluster
    from streams.topology import load

    specs = cluster.plan(load(module))
    changes = cluster.diff(specs, cluster.connect(invocation().cluster()))
    if not changes:
        say(f"all {len(specs)} topics are as they should be")
        return
    table(("topic", "change", "detail"), [(change.topic, change.action, change.detail) for change in changes])
    click.get_current_context().exit(1)


@topics.command("apply")
@click.argument("module")
@click.option("--replication", type=click.IntRange(min=1), help="Replicas of new topics. Default: the broker's.")
def apply_topics(module: str, replication: int | None) -> None:
    """Make the cluster's topics as the topology needs them. A second call does nothing.

    \b
    Examples:
      towpath topics apply topologies.orders
      towpath --bootstrap kafka:9092 topics apply topologies.orders --replication 3
    """
    from streams import topics as cluster
    from streams.topology import load

    specs = cluster.plan(load(module))
    changes = cluster.apply(specs, cluster.connect(invocation().cluster()), replication=replication or -1)
    table(("topic", "done", "detail"), [(change.topic, change.action, change.detail) for change in changes])
    say(f"{len(changes)} of {len(specs)} topics changed" if changes else f"all {len(specs)} topics are as they should be")
