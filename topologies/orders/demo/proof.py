"""The last line of the demo: everything that happened, reconciled.

The one rule: it is what `towpath reconcile` does, with the provider's statements and the stages' database.
"""

import tempfile
from pathlib import Path

from streams.config import Settings
from streams.errors import TowpathError
from streams.ops.reconcile.ledger import Ledger
from streams.ops.reconcile.report import report
from streams.ops.reconcile.source import reconcile
from streams.topology import Topology
from topologies.orders.demo.outside import Outside


def proof(settings: Settings, topology: Topology, outside: Outside) -> str:
    """The outcome in a line, and a report beside it. Raises `TowpathError` if anything does not add up."""
    page = settings.directory / "reconciled.html"
    with tempfile.TemporaryDirectory(prefix="towpath-demo-") as folder:
        ledger = Ledger(topology, Path(folder), [settings.store], outside.statements(Path(folder)))
        try:
            result = reconcile(settings, ledger)
        finally:
            ledger.close()
    page.write_text(report(result, topology), "utf-8")
    if result.differences:
        first = result.differences[0]
        raise TowpathError(
            f"{len(result.differences)} differences, first {first.kind} at {first.where} of {' '.join(first.ids)}: "
            f"{first.ours}; {first.theirs}; see {page}"
        )
    events, blind = sum(result.counts.values()), sum(result.unknown.values())
    beside = f", {blind:,} things not checkable" if blind else ""
    return f"reconcile: {events:,} events and {result.receipts:,} receipts, 0 differences{beside}; the report is {page}\n"
