"""Does the flow keep its promises: what comes in, how it ends, how long that takes, and how fast the budgets are spent.

The one rule: it is what an operator looks at first, so it says on one screen whether to look any further.
"""

from typing import Final

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards import parts
from dashboards.queries import OURS, TOPOLOGY, of, quantile, rate

_E2E: Final = "towpath_e2e_duration_seconds"


def board() -> Dashboard:
    """The dashboard."""
    made = parts.board("flow", "flow and promises", "Does the flow keep its promises?").with_variable(
        parts.chosen("topology", "Topology", "towpath_stage_healthy")
    )
    return parts.filled(made, {"": _now(), "Flow": _flow(), "Promises": _promises()})


def _now() -> tuple[parts.Panel, ...]:
    cases = of("towpath_cases_open", where=TOPOLOGY)
    lag = of("towpath_group_lag_seconds", where=TOPOLOGY)
    away = of("towpath_dependency_away", where=TOPOLOGY)
    return (
        parts.number(
            "Ends per second", "Events that end what a source began.", "cps", rate(f"{_E2E}_count", by="", where=TOPOLOGY)
        ),
        parts.number(
            "p99 to the end",
            "From submission to the end, without what customers leave unpaid or cancel. The promise: 99 % within 30 s.",
            "s",
            quantile(0.99, _E2E, OURS, by="", where=TOPOLOGY),
            steps=[(10, "orange"), (30, "red")],
        ),
        parts.number(
            "Oldest unread",
            "Age of the first unread record of any stage.",
            "s",
            f"max({lag})",
            steps=[(60, "orange"), (300, "red")],
        ),
        parts.number(
            "Open cases", "Dead letters that nobody has decided yet.", "short", f"sum({cases})", steps=[(1, "orange")]
        ),
        parts.number(
            "Stages that hold",
            "They wait for a dependency and go on by themselves.",
            "short",
            f"count(count by (topology, stage) ({away})) or vector(0)",
            steps=[(1, "red")],
        ),
        parts.number(
            "Alerts",
            "Towpath's alerts that fire now.",
            "short",
            'count(ALERTS{alertname=~"Towpath.+", alertstate="firing"}) or vector(0)',
            steps=[(1, "red")],
        ),
    )


def _flow() -> tuple[parts.Panel, ...]:
    shares = ((0.5, "half"), (0.9, "90 %"), (0.99, "99 %"))
    return (
        parts.lines(
            "Ends by outcome",
            "How orders end, by what the last event says of itself.",
            "cps",
            (rate(f"{_E2E}_count", by="outcome", where=TOPOLOGY), "{{outcome}}"),
            stacked=True,
        ),
        parts.lines(
            "From submission to the end",
            "Half, 90 % and 99 % of the orders take no longer than this; without what customers leave unpaid or cancel.",
            "s",
            *((quantile(share, _E2E, OURS, by="", where=TOPOLOGY), legend) for share, legend in shares),
        ),
        parts.lines(
            "Taken in by stage",
            "New records of committed transactions.",
            "cps",
            (rate("messaging_client_consumed_messages_total", where=TOPOLOGY), "{{stage}}"),
        ),
        parts.lines(
            "Waiting before each stage",
            "99 % of the records wait no longer than this until the stage takes them up. The one that grows is too slow.",
            "s",
            (quantile(0.99, "towpath_stage_wait_seconds", where=TOPOLOGY), "{{stage}}"),
        ),
    )


def _promises() -> tuple[parts.Panel, ...]:
    windows = ("5m", "1h", "6h")
    return (
        parts.lines(
            "Budget of the dead: burn rate",
            "1: the month's budget (0.1 % of a stage's records) lasts the month. From 14.4 on somebody is woken up.",
            "short",
            *(
                (f"{of(f'stage:towpath_dead:ratio_rate{time}', where=TOPOLOGY)} / 0.001", f"{{{{stage}}}} {time}")
                for time in windows
            ),
        ),
        parts.lines(
            "Budget of the late: burn rate",
            "1: the month's budget (1 % of the orders later than 30 s) lasts the month. From 14.4 on somebody is woken up.",
            "short",
            *(
                (f"{of(f'topology:towpath_slow:ratio_rate{time}', where=TOPOLOGY)} / 0.01", f"{{{{topology}}}} {time}")
                for time in windows
            ),
        ),
    )
