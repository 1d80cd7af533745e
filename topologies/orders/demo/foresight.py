"""What will go wrong in a demo with faults, known before it starts.

The one rule: it is worked out from the orders and their fates alone, by none of the parts that are to be shown.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from topologies.orders.events import OrderAccepted, OrderSubmitted
from topologies.orders.faults import Fate, Faults
from topologies.orders.intake import judge
from topologies.orders.notification import notification

_DEADLINE: Final = 15.0  # seconds: a machine with other work to do takes a few from reservation to payment
_SILENT: Final = 25  # one in so many of the first quarter's orders
BAD: Final = 10
"""Records among the orders that are none."""


class Foreseen(msgspec.Struct, frozen=True):
    """Attempts that fail and are made again, and records that die: of bad bytes, of a refusal, of a bug."""

    retried: int
    undecodable: int
    refused: int
    bug: int

    @property
    def dead(self) -> int:
        """All that die."""
        return self.undecodable + self.refused + self.bug


def order_faults(orders: int, mended: Path) -> Faults:
    """The faults of a demo with so many orders."""
    return Faults(
        busy=0.05, refused=0.01, away_after=max(1, orders // 4), away_for=10.0, bug=0.01, mended=str(mended.absolute())
    )


def quiet_faults(orders: Sequence[Mapping[str, Any]]) -> tuple[Faults, float]:
    """The faults of a demo without, and the time to pay (seconds): for a few orders the provider is silent for longer.

    They are among the first, so that their time is over soon after the last one has come.
    """
    silent = [str(order["order_id"]) for order in orders[: len(orders) // 4 : _SILENT]]
    return Faults(silent=",".join(silent), silent_for=_DEADLINE + 3), _DEADLINE


def foresee(faults: Faults, orders: Iterable[Mapping[str, Any]], unpaid: Collection[str]) -> Foreseen:
    """What these orders will suffer. `unpaid` are those that find too little in stock or are cancelled before they are paid."""
    retried = refused = bug = 0
    for raw in orders:
        order = msgspec.convert(raw, OrderSubmitted)
        to_be_paid = isinstance(judge(order), OrderAccepted) and order.order_id not in unpaid
        match faults.fate(order.order_id):
            case Fate.BUSY if to_be_paid:
                retried += faults.times_busy(order.order_id)
            case Fate.REFUSED if to_be_paid:
                refused += 1
            case Fate.BUG:  # whatever becomes of an order, its customer is to be told
                bug += 1
                retried += notification.retry.attempts - 1
    return Foreseen(retried, BAD, refused, bug)
