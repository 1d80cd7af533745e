"""A stage without lanes: no table is followed and no record is asked whether it must queue.

The one rule: nothing else differs. It is what lanes are measured against; a failing record would be lost here.
"""

from typing import Any

from streams import worker
from streams.session import Inputs
from streams.work import Work


def _blind(lead: str, others: tuple[str, ...], _table: str) -> Inputs:
    return Inputs(lead, others)


def _queued(_work: Any, _record: Any) -> bool:
    return False


def do_without() -> None:
    """From here on."""
    worker.Inputs = _blind  # type: ignore[attr-defined,assignment]  # the whole point of this file
    Work._queued = _queued  # type: ignore[assignment,method-assign]  # as above
