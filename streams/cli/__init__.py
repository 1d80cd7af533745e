"""The `towpath` command.

The one rule: people get tables and colours, pipes plain lines; what is wrong is one clear line on stderr, no traceback.

Commands import what they need when they run: `towpath --help` and a mistyped option answer at once.
"""
# ruff: noqa: D301  # `\b` is click's mark for a paragraph to be left as it is

import sys

import click

from streams.cli.cases import cases
from streams.cli.cluster import down, status, topics, up
from streams.cli.contracts import graph, schemas
from streams.cli.db import db
from streams.cli.flow import demo, run
from streams.cli.invocation import Invocation, complain
from streams.cli.lag import lag
from streams.cli.reconcile import reconcile
from streams.cli.records import send, tail
from streams.cli.replay import rebuild, replay
from streams.cli.simulate import simulate
from streams.cli.story import order
from streams.cli.top import top
from streams.errors import Fenced, TowpathError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--bootstrap", metavar="HOST:PORT[,…]", help="The Kafka cluster. Wins over TOWPATH_BOOTSTRAP.")
@click.version_option(package_name="towpath", prog_name="towpath")
@click.pass_context
def towpath(context: click.Context, bootstrap: str | None) -> None:
    """Run event flows on Kafka: exactly once, in order per key, with nothing lost.

    Without --bootstrap and TOWPATH_BOOTSTRAP, commands use the local Kafka that `towpath up` starts, and say so.

    MODULE is the Python module that holds a topology, such as topologies.orders.

    \b
    Variables:
      TOWPATH_BOOTSTRAP  host:port[,host:port…] of the cluster
      TOWPATH_STORE      the stages' database: postgresql://user:password@host/name, or sqlite:///file.
                         Default: SQLite in TOWPATH_DIR
      TOWPATH_INSTANCE   this copy's stable name, e.g. the pod's name in a StatefulSet
      TOWPATH_DIR        where local state lives; default: .towpath
      TOWPATH_CACHE      where Kafka's jars are kept; default: the user's cache directory
      TOWPATH_KAFKA      any librdkafka properties: name=value separated by `;`, or @FILE with one a line.
                         They win over Towpath's own:
                         TOWPATH_KAFKA='security.protocol=ssl;ssl.ca.location=ca.pem'

    \b
    Exit codes:
      0 done   1 done, but not with everything   2 could not be done; stderr says why
      3 another operator has taken over, or a commit got no answer: look again   130 Ctrl-C

    \b
    A first look, on this machine alone:
      towpath up
      towpath topics apply topologies.orders
      towpath db upgrade topologies.orders
      towpath run topologies.orders &
      towpath tail orders.submitted notifications.sent
    """
    context.obj = Invocation(bootstrap)


for command in (
    up,
    down,
    status,
    topics,
    db,
    run,
    send,
    tail,
    lag,
    top,
    order,
    cases,
    reconcile,
    replay,
    rebuild,
    simulate,
    graph,
    schemas,
    demo,
):
    towpath.add_command(command)


def main() -> None:
    """Run the command line of this process and exit."""
    try:
        code = towpath.main(prog_name="towpath", standalone_mode=False)
    except TowpathError as error:
        complain(str(error))
        code = 3 if isinstance(error, Fenced) else 2
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except click.Abort:  # click's word for Ctrl-C
        code = 130
    sys.exit(code if isinstance(code, int) else 0)
