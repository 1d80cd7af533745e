"""How a worker process does: what it costs, how its transactions go, what holds it up.

The one rule: one line for each process, so that the odd one is seen among its copies.
"""

from typing import Final

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards import parts
from dashboards.queries import STAGE, TOPOLOGY, of, quantile, rate

_JOB: Final = 'job="towpath-workers"'
_ONE: Final = "{{stage}} on {{instance}}"


def board() -> Dashboard:
    """The dashboard."""
    made = (
        parts.board("worker", "worker", "How does a worker process do?")
        .with_variable(parts.chosen("topology", "Topology", "towpath_stage_healthy"))
        .with_variable(parts.chosen("stage", "Stage", "towpath_stage_healthy"))
    )
    return parts.filled(made, {"Who is there": _there(), "Transactions": _transactions(), "Process": _process()})


def _there() -> tuple[parts.Panel, ...]:
    return (
        parts.lines(
            "Partitions",
            "Of the lead topic, by who owns them.",
            "short",
            (f"sum by (stage, instance) ({of('towpath_owned_partitions')})", _ONE),
            width=8,
        ),
        parts.lines(
            "Healthy",
            "0: a handler does not come back, or the stage does not poll. `/health` names the record.",
            "short",
            (f"min by (stage, instance) ({of('towpath_stage_healthy')})", _ONE),
            width=8,
        ),
        parts.listing(
            "Versions",
            "Which code runs where.",
            "short",
            f"max by (version, instance) ({of('towpath_build_info', where=TOPOLOGY)})",
            width=8,
        ),
    )


def _transactions() -> tuple[parts.Panel, ...]:
    records, count = (
        rate(f"towpath_transaction_records_{part}", by="stage, instance", where=STAGE) for part in ("sum", "count")
    )
    return (
        parts.lines(
            "Transactions",
            "Committed.",
            "cps",
            (rate("towpath_transaction_duration_seconds_count", by="stage, instance"), _ONE),
        ),
        parts.lines(
            "Records written in one",
            "On average. Near 1 under load: batches do not fill.",
            "short",
            (f"{records} / {count}", _ONE),
        ),
        parts.lines(
            "Database",
            "99 % of the database transactions of a batch take no longer than this, handlers included.",
            "s",
            (quantile(0.99, "towpath_store_batch_duration_seconds", by="stage, instance"), _ONE),
        ),
        parts.lines(
            "Answered from the inbox",
            "Events that came again, after a worker died between database and Kafka.",
            "cps",
            (rate("towpath_store_inbox_hits_total", by="stage, instance"), _ONE),
        ),
        parts.lines(
            "Restoring a partition's parking table",
            "On average, from its assignment until reading began.",
            "s",
            (
                f"sum by (stage, instance) ({of('towpath_restore_duration_seconds_sum')})"
                f" / sum by (stage, instance) ({of('towpath_restore_duration_seconds_count')})",
                _ONE,
            ),
        ),
        parts.lines(
            "Fetched or produced, and waiting",
            "Records in librdkafka's queues.",
            "short",
            (f"sum by (stage, client) ({of('towpath_kafka_queue_records')})", "{{stage}} {{client}}"),
        ),
    )


def _process() -> tuple[parts.Panel, ...]:
    return (
        parts.lines(
            "Processor",
            "Cores in use. A worker's Python uses hardly more than one.",
            "short",
            (f"rate({of('process_cpu_seconds_total', where=_JOB)}[$__rate_interval])", "{{instance}}"),
        ),
        parts.lines("Memory", "Resident.", "bytes", (of("process_resident_memory_bytes", where=_JOB), "{{instance}}")),
        parts.lines(
            "Event loop behind",
            "99 % of its wakes are late by no more than this. More: something blocks it.",
            "s",
            (quantile(0.99, "towpath_event_loop_lag_seconds", by="instance", where=TOPOLOGY), "{{instance}}"),
        ),
        parts.lines(
            "Open files",
            "The share of what the process may open.",
            "percentunit",
            (f"{of('process_open_fds', where=_JOB)} / {of('process_max_fds', where=_JOB)}", "{{instance}}"),
        ),
    )
