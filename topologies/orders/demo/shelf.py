"""The stock at the end of the demo: what has left the shelf is what the confirmed orders wanted, product by product.

The one rule: what was wanted is read from the topic, what is left from the database, and neither is asked about the other.
"""

from collections import Counter

from streams.codec import Codec
from streams.config import Settings
from streams.errors import TowpathError
from streams.ops.reader import Reader
from streams.record import event_info
from streams.registry import FolderRegistry
from streams.store import Inbox
from streams.topology import Topology
from topologies.orders.demo.watch import CONFIRMED, Watch
from topologies.orders.events import StockReserved
from topologies.orders.stock import stock


def shelf(settings: Settings, topology: Topology, watch: Watch, units: int) -> str:
    """The stock in a line; there were `units` before. Raises `TowpathError` if it is not as the orders' ends say."""
    confirmed = {key for key, (ending, _) in watch.endings.items() if ending == CONFIRMED}
    wanted: Counter[str] = Counter()
    decode = Codec([StockReserved], FolderRegistry(topology.schemas)).decoder(StockReserved)
    with Reader(settings, [event_info(StockReserved).topic], from_beginning=True) as reader:
        while not reader.at_end:
            for record in reader.read(2000):
                if record.key in confirmed:
                    wanted.update({line.sku: line.quantity for line in decode(record.value or b"").demand})
    inbox = Inbox(settings.store, "demo", stock)
    inbox.open()
    try:
        with inbox.batch([], 0.0) as journal:
            gone, left, reserved = journal.repository.tally()
    finally:
        inbox.close()
    if gone != wanted or units - left != gone.total() or reserved:
        raise TowpathError(
            f"confirmed orders want {wanted.total():,} units; {gone.total():,} are booked as shipped, "
            f"{units - left:,} have left the shelf, {reserved:,} are set aside"
        )
    return (
        f"stock: {gone.total():,} units have left the shelf, which are the lines of the {len(confirmed):,} confirmed orders, "
        "product by product; none is set aside\n"
    )
