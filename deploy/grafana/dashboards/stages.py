"""What becomes of records in each stage: done, tried again, parked, dead.

The one rule: from left to right and from top to bottom it is the way that a failing record goes.
"""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards import parts
from dashboards.queries import grown, of, quantile, rate


def board() -> Dashboard:
    """The dashboard."""
    made = (
        parts.board("stages", "stages", "What becomes of records in each stage?")
        .with_variable(parts.chosen("topology", "Topology", "towpath_stage_healthy"))
        .with_variable(parts.chosen("stage", "Stage", "towpath_stage_healthy"))
    )
    return parts.filled(
        made,
        {"": _funnel(), "Time": _time(), "Retries and holds": _retries(), "Dead letters and cases": _dead()},
    )


def _funnel() -> tuple[parts.Panel, ...]:
    return (
        parts.funnel(
            "From taken in to dead",
            "Over the time that is shown: how few of what comes in fails, is tried again, dies, and still waits to be decided.",
            (grown("messaging_client_consumed_messages_total"), "taken in"),
            (grown("towpath_outcomes_total", 'verdict="done"'), "done"),
            (grown("towpath_retries_total"), "tried again"),
            (grown("towpath_dead_total"), "dead"),
            (f"sum({of('towpath_cases_open')})", "cases open now"),
        ),
        parts.lines(
            "Verdicts",
            "Attempts by what became of them.",
            "cps",
            (rate("towpath_outcomes_total", by="verdict"), "{{verdict}}"),
            stacked=True,
        ),
    )


def _time() -> tuple[parts.Panel, ...]:
    return (
        parts.lines(
            "From a record's time to its commit",
            "99 % take no longer than this.",
            "s",
            (quantile(0.99, "towpath_stage_duration_seconds"), "{{stage}}"),
        ),
        parts.lines(
            "Handlers and database, per transaction",
            "99 % of the transactions take no longer than this from their first record to the last verdict.",
            "s",
            (quantile(0.99, "messaging_process_duration_seconds"), "{{stage}}"),
        ),
    )


def _retries() -> tuple[parts.Panel, ...]:
    return (
        parts.lines("Attempts made again", "Beyond a record's first.", "cps", (rate("towpath_retries_total"), "{{stage}}")),
        parts.lines(
            "Parked records",
            "On the parking table. `retry`: failed, and tried again; `queued`: behind one of its key; `timer`: sent for later; "
            "`held`: until its case is decided.",
            "short",
            (f"sum by (stage, kind) ({of('towpath_parked_records')})", "{{stage}} {{kind}}"),
        ),
        parts.lines(
            "Oldest parked record",
            "Without timers and without what waits for a decision.",
            "s",
            (f"max by (stage) ({of('towpath_parked_oldest_seconds')})", "{{stage}}"),
        ),
        parts.lines(
            "Holds",
            "1 while a stage takes nothing in and waits for this dependency.",
            "short",
            (f"max by (stage, dependency) ({of('towpath_dependency_away')})", "{{stage}} waits for {{dependency}}"),
        ),
        parts.lines(
            "Circuit breakers",
            "1 for the state that a dependency is in.",
            "short",
            (f"max by (dependency, state) ({of('towpath_dependency_state')})", "{{dependency}} {{state}}"),
        ),
        parts.lines(
            "Paused partitions",
            "Not read on, since too much of them is parked.",
            "short",
            (f"sum by (stage) ({of('towpath_paused_partitions')})", "{{stage}}"),
        ),
    )


def _dead() -> tuple[parts.Panel, ...]:
    return (
        parts.lines(
            "Dead letters by error",
            "How many there have been since the workers started.",
            "short",
            (f"sum by (stage, error) ({of('towpath_dead_total')})", "{{stage}} {{error}}"),
        ),
        parts.lines(
            "Open cases",
            "Dead letters that nobody has decided yet.",
            "short",
            (f"max by (stage) ({of('towpath_cases_open')})", "{{stage}}"),
        ),
        parts.lines(
            "Oldest open case",
            "An alert pages after four hours.",
            "s",
            (f"max by (stage) ({of('towpath_cases_oldest_seconds')})", "{{stage}}"),
        ),
        parts.listing(
            "Dead letters",
            "By stage and error, since the workers started: `towpath cases` has the records.",
            "short",
            f"sum by (stage, error) ({of('towpath_dead_total')})",
        ),
    )
