"""A flow of one stage, to be measured: it looks at an order of the order flow and says what intake would say.

The one rule: it does the work of a real stage on real events, and has neither a store nor ports.
"""

from pathlib import Path

from streams.stage import Context, Stage
from streams.topology import Topology
from topologies.orders.events import OrderAccepted, OrderRejected, OrderSubmitted
from topologies.orders.intake import judge

checking = Stage("checking")


@checking.on
def check(order: OrderSubmitted, _ctx: Context) -> OrderAccepted | OrderRejected:
    """Check the order and add up its lines."""
    return judge(order)


bench = Topology(
    "bench",
    sources=[OrderSubmitted],
    stages=[checking],
    sinks=[OrderAccepted, OrderRejected],
    partitions=4,
    schemas=Path(__file__).parents[2] / "schemas",
)
