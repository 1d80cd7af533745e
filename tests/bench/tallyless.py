"""The `towpath` command without metrics: no transaction is counted, and no header says when the flow began.

The one rule: nothing else differs. It is what metrics are measured against.
"""

from typing import Any

from streams import travel
from streams.cli import main
from streams.tally import Tally
from tests.bench.ground import HEADERS


def _nothing(*_: Any) -> None:
    """Of no interest here."""


def do_without() -> None:
    """From here on."""
    Tally.committed = _nothing  # type: ignore[method-assign,assignment]  # the whole point of this file
    vars(travel)["BORN"] = HEADERS[-1][0]  # every record of a benchmark has this one, so that none is added


if __name__ == "__main__":
    do_without()
    main()
