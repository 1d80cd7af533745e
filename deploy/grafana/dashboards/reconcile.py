"""Does it add up: what the last reconciliations have found.

The one rule: a figure stands beside its age, since no news of differences is good news only while somebody looks for them.
"""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards import parts
from dashboards.queries import TOPOLOGY, of


def board() -> Dashboard:
    """The dashboard."""
    made = parts.board("reconcile", "reconcile", "Does it add up?").with_variable(
        parts.chosen("topology", "Topology", "towpath_reconcile_differences")
    )
    return parts.filled(made, {"": (*_now(), *_past())})


def _now() -> tuple[parts.Panel, ...]:
    last = of("towpath_reconcile_last_run_timestamp_seconds", where=TOPOLOGY)
    differences = of("towpath_reconcile_differences", 'kind="all"', where=TOPOLOGY)
    return (
        parts.number(
            "Last run ended",
            "How long ago. It is to run every hour.",
            "s",
            f"time() - min({last})",
            steps=[(7200, "orange"), (10800, "red")],
        ),
        parts.number("Differences", "Found by the last run.", "short", f"sum({differences})", steps=[(1, "red")]),
        parts.number(
            "Not checkable",
            "Records whose proof is gone, such as by retention: reconcile more often than that removes.",
            "short",
            f"sum({of('towpath_reconcile_unknown', where=TOPOLOGY)})",
            steps=[(1, "orange")],
        ),
        parts.number("Events read", "By the last run.", "short", f"sum({of('towpath_reconcile_events', where=TOPOLOGY)})"),
        parts.number("Receipts read", "By the last run.", "short", f"sum({of('towpath_reconcile_receipts', where=TOPOLOGY)})"),
        parts.number(
            "Time for a run", "The last one.", "s", f"max({of('towpath_reconcile_duration_seconds', where=TOPOLOGY)})"
        ),
    )


def _past() -> tuple[parts.Panel, ...]:
    differences = of("towpath_reconcile_differences", where=TOPOLOGY)
    return (
        parts.lines(
            "Differences by kind",
            "The runbook has a table of what each kind means and what repairs it.",
            "short",
            (f"sum by (kind) ({differences})", "{{kind}}"),
        ),
        parts.lines(
            "Read",
            "Events and receipts of each run.",
            "short",
            (f"sum({of('towpath_reconcile_events', where=TOPOLOGY)})", "events"),
            (f"sum({of('towpath_reconcile_receipts', where=TOPOLOGY)})", "receipts"),
        ),
    )
