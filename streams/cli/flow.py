"""`towpath run` and `towpath demo`: the flow at work.

The one rule: a worker ends with the worker's own exit code, so that its supervisor knows whether to start it again.
"""
# ruff: noqa: D301, PLC0415  # `\b` is click's mark for text to be left as it is; slow imports wait until they are needed

import importlib
import sys

import click
import msgspec

from streams.cli.invocation import invocation


@click.command()
@click.argument("module")
@click.argument("stages", metavar="[STAGE]…", nargs=-1)
@click.option("--instance", metavar="NAME", help="This copy's stable name. Wins over TOWPATH_INSTANCE.")
@click.option(
    "--web-port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="PORT",
    help="Where /health and /ready are served. Default: any free port, which the log names.",
)
def run(module: str, stages: tuple[str, ...], instance: str | None, web_port: int) -> None:
    """Run stages of a topology as one worker process, until SIGTERM or Ctrl-C.

    Without STAGE it runs all of them. As many copies of a stage share its work as there are partitions. Give each copy a
    stable --instance: when it is started again, its transactions fence those of its dead self at once.

    GET /health shows the stages as JSON; GET /ready is 200 once every stage owns its partitions, 503 before.

    SIGTERM: the worker finishes its batch, commits, leaves the group and exits 0. A record that cannot be handled
    is tried again, and becomes a dead letter with a case when its attempts are spent. Any exit code but 0: start it again.

    \b
    Examples:
      towpath run topologies.orders
      towpath run topologies.orders inventory payment --instance pod-3
    """
    from streams import worker
    from streams.logs import set_up
    from streams.topology import load

    set_up(sys.stderr, invocation().settings())
    topology = load(module)
    chosen = [topology.stage(name).name for name in dict.fromkeys(stages)] or [stage.name for stage in topology.stages]
    settings = invocation().cluster()
    if instance:
        settings = msgspec.structs.replace(settings, instance=instance)
    click.get_current_context().exit(worker.run(topology, chosen, settings, web_port=web_port))


@click.command()
@click.option("--orders", type=click.IntRange(min=1), default=2000, show_default=True, help="How many real orders to send.")
@click.option("--rate", type=click.FloatRange(1), default=200, show_default=True, help="Orders per second.")
@click.option("--keep", is_flag=True, help="Leave Kafka running afterwards, to look around in.")
@click.option("--faults", is_flag=True, help="Let a known share of the orders fail on the way; see below.")
@click.option("--traces", is_flag=True, help="Show each order as a trace, in a Zipkin that is left running.")
def demo(orders: int, rate: float, *, keep: bool, faults: bool, traces: bool) -> None:
    """Send real orders through the order flow on a real Kafka, and watch.

    Starts a Kafka of its own, makes the topics, fills the stock, starts the six agents as processes, publishes the
    orders at a steady rate and waits until each has come to its end; some are cancelled, and some not paid for in time.
    Then it says how they ended and how long they took, balances the books of orders, money and stock, and stops whatever
    it started. Everything is in .towpath/demo (TOWPATH_DIR), which each run makes anew.

    With --faults the payment provider is busy for some orders, refuses others, and is away for 10 s; the mailer has a bug;
    and some records are no orders at all. What fails is tried again, waits, or dies and opens a case. Then the demo mends
    what is broken, redrives these cases and dismisses what is no order, and every order comes to its end. How often each
    of these happens is known beforehand: the summary shows both, and the exit code is 0 only if they are the same.

    \b
    Examples:
      towpath demo
      towpath demo --faults --traces
      towpath demo --orders 20000 --rate 500
    """
    call = invocation()
    if call.bootstrap:
        raise click.UsageError("the demo runs on a Kafka of its own: call it without --bootstrap")
    # The runtime knows no application: this one is found by its name.
    run = importlib.import_module("topologies.orders.demo").run
    run(call.settings(), orders=orders, rate=rate, keep=keep, faults=faults, traces=traces)
