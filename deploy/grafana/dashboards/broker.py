"""Is it the broker: what the cluster says of itself, and what clients notice of it.

The one rule: only what any client can see. What a broker knows of itself alone (disks, request queues), its own exporter says.
"""

from typing import Final

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards import parts
from dashboards.queries import TOPOLOGY, of, quantile, rate

_CLIENTS: Final = "{{stage}} {{client}}"


def board() -> Dashboard:
    """The dashboard."""
    made = parts.board("broker", "broker", "Is it the broker?").with_variable(
        parts.chosen("topology", "Topology", "towpath_brokers")
    )
    return parts.filled(made, {"": _now(), "Topics": _topics(), "What clients notice": _clients()})


def _now() -> tuple[parts.Panel, ...]:
    offline = of("towpath_partitions_offline", where=TOPOLOGY)
    lacking = of("towpath_partitions_under_replicated", where=TOPOLOGY)
    return (
        parts.number("Brokers", "That the cluster names now.", "short", f"min({of('towpath_brokers', where=TOPOLOGY)})"),
        parts.number(
            "Partitions without a leader", "Nobody can read or write them.", "short", f"sum({offline})", steps=[(1, "red")]
        ),
        parts.number(
            "Partitions that lack a replica",
            "They work; one more broker that fails may stop them.",
            "short",
            f"sum({lacking})",
            steps=[(1, "orange")],
        ),
    )


def _topics() -> tuple[parts.Panel, ...]:
    return (
        parts.lines(
            "Written per second",
            "By topic: how fast the end moves for whoever reads committed records.",
            "cps",
            (f"sum by (topic) (rate({of('towpath_topic_end_offset', where=TOPOLOGY)}[$__rate_interval]))", "{{topic}}"),
        ),
        parts.lines(
            "Written by stages",
            "Records of committed transactions, by topic.",
            "cps",
            (
                rate("messaging_client_sent_messages_total", by="messaging_destination_name", where=TOPOLOGY),
                "{{messaging_destination_name}}",
            ),
        ),
    )


def _clients() -> tuple[parts.Panel, ...]:
    return (
        parts.lines(
            "Round trips",
            "99 % of a client's requests are answered within this; of its slowest broker.",
            "s",
            (f"max by (stage, client) ({of('towpath_kafka_rtt_seconds', where=TOPOLOGY)})", _CLIENTS),
        ),
        parts.lines(
            "Commits",
            "99 % of the transactions take no longer than this from their begin to the commit's answer.",
            "s",
            (quantile(0.99, "towpath_transaction_duration_seconds", where=TOPOLOGY), "{{stage}}"),
        ),
        parts.lines(
            "Requests that failed",
            "Or were not answered in time.",
            "cps",
            (rate("towpath_kafka_request_errors_total", by="stage, client", where=TOPOLOGY), _CLIENTS),
        ),
        parts.lines(
            "Brokers that clients are connected to",
            "Of the client that reaches the fewest.",
            "short",
            (f"min by (stage, client) ({of('towpath_kafka_brokers_up', where=TOPOLOGY)})", _CLIENTS),
        ),
    )
