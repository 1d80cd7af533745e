"""How far behind are stages, and why: nobody there, standing still, or a transaction that hangs.

The one rule: it asks what the cluster says, so that stages without a living worker are seen too.
"""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards import parts
from dashboards.queries import TOPOLOGY, of, rate


def board() -> Dashboard:
    """The dashboard."""
    made = (
        parts.board("lag", "lag", "How far behind are stages, and why?")
        .with_variable(parts.chosen("topology", "Topology", "towpath_lag_up"))
        .with_variable(parts.chosen("stage", "Stage", "towpath_group_members"))
    )
    sections = {"": (*_behind(), *_who()), "Open transactions": _transactions(), "The lag exporter itself": _exporter()}
    return parts.filled(made, sections)


def _behind() -> tuple[parts.Panel, ...]:
    return (
        parts.lines(
            "Behind in seconds",
            "Age of the first unread record, of the worst partition. An alert pages from five minutes on.",
            "s",
            (f"max by (stage) ({of('towpath_group_lag_seconds')})", "{{stage}}"),
        ),
        parts.lines(
            "Behind in records",
            "Committed and not read, over all partitions.",
            "short",
            (f"sum by (stage) ({of('towpath_group_lag_records')})", "{{stage}}"),
        ),
        parts.listing(
            "Partitions",
            "The partitions that are furthest behind. One alone: a key with most of the load, or a slow worker.",
            "s",
            f"topk(20, max by (stage, topic, partition) ({of('towpath_group_lag_seconds')}))",
        ),
        parts.lines(
            "Steps forward",
            "Committed offsets per second. 0 with a lag: it stands still.",
            "cps",
            (f"sum by (stage) (rate({of('towpath_group_committed_offset')}[$__rate_interval]))", "{{stage}}"),
        ),
    )


def _who() -> tuple[parts.Panel, ...]:
    return (
        parts.lines(
            "Members of the groups",
            "0: no worker of the stage lives.",
            "short",
            (f"max by (stage) ({of('towpath_group_members')})", "{{stage}}"),
        ),
        parts.lines(
            "Rebalances",
            "How often partitions have changed hands since the workers started. They are not read meanwhile.",
            "short",
            (f"max by (stage) ({of('towpath_kafka_rebalances_total')})", "{{stage}}"),
        ),
    )


def _transactions() -> tuple[parts.Panel, ...]:
    return (
        parts.lines(
            "Behind an open transaction",
            "Offsets that nobody can read yet. They come and go; an alert pages when one stays for a minute.",
            "short",
            (f"sum by (topic) ({of('towpath_lso_gap_records', where=TOPOLOGY)})", "{{topic}}"),
        ),
        parts.lines(
            "Standing still behind an open transaction",
            "For how long. Towpath's own transactions end after 15 s, whoever dies.",
            "s",
            (f"max by (topic) ({of('towpath_lso_stalled_seconds', where=TOPOLOGY)})", "{{topic}}"),
        ),
        parts.lines(
            "Transactions that came to nothing",
            "Aborted and done again: rebalances, a broker that was away.",
            "cps",
            (rate("towpath_transactions_aborted_total"), "{{stage}}"),
        ),
    )


def _exporter() -> tuple[parts.Panel, ...]:
    return (
        parts.lines(
            "Looks that succeeded",
            "1, or 0 while the cluster does not answer: all of the above is missing then.",
            "short",
            (f"min by (topology) ({of('towpath_lag_up', where=TOPOLOGY)})", "{{topology}}"),
        ),
        parts.lines(
            "Time for a look",
            "How long the cluster takes to answer all questions.",
            "s",
            (f"max by (topology) ({of('towpath_lag_look_duration_seconds', where=TOPOLOGY)})", "{{topology}}"),
        ),
    )
