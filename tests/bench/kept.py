"""The flow to be measured with an inbox: the same stage, with a store that its handler does not use.

The one rule: what it costs more is the inbox and the database's transaction, and nothing else.
"""

from pathlib import Path

from streams.stage import Context, Stage
from streams.topology import Topology
from tests.support.counters import STORE
from topologies.orders.events import OrderAccepted, OrderRejected, OrderSubmitted
from topologies.orders.intake import judge

keeping = Stage("keeping", store=STORE)


@keeping.on
def check(order: OrderSubmitted, _ctx: Context) -> OrderAccepted | OrderRejected:
    """Check the order and add up its lines."""
    return judge(order)


kept = Topology(
    "bench-kept",
    sources=[OrderSubmitted],
    stages=[keeping],
    sinks=[OrderAccepted, OrderRejected],
    partitions=4,
    schemas=Path(__file__).parents[2] / "schemas",
)
