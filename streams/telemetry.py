"""Metrics: what a worker's stages say of themselves, in OpenMetrics.

The one rule: a metric is read when it is asked for. The cycle counts in plain numbers and knows nothing of metrics; labels are
stages, verdicts and dependencies, never an id or a key.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.openmetrics.exposition import generate_latest

MEDIA_TYPE = "application/openmetrics-text"


class Stages:
    """A Prometheus collector over health pages, one for each stage (see `Engine.state`)."""

    def __init__(self, pages: Iterable[dict[str, Any]]) -> None:
        self._pages = list(pages)

    def collect(self) -> Iterator[Metric]:
        """The metrics of this moment."""
        healthy = GaugeMetricFamily("towpath_stage_healthy", "1, or 0 for a stage that cannot go on", labels=["stage"])
        outcomes = CounterMetricFamily("towpath_outcomes", "Attempts by their verdict", labels=["stage", "verdict"])
        aborted = CounterMetricFamily("towpath_transactions_aborted", "Transactions that were done again", labels=["stage"])
        parked = GaugeMetricFamily("towpath_parked_records", "Records that wait on the parking table", labels=["stage"])
        paused = GaugeMetricFamily(
            "towpath_paused_partitions", "Partitions not read on, since too much of them is parked", labels=["stage"]
        )
        owned = GaugeMetricFamily("towpath_owned_partitions", "Partitions of the lead topic", labels=["stage"])
        waits = GaugeMetricFamily(
            "towpath_dependency_away", "1 while the stage takes nothing in and waits for it", labels=["stage", "dependency"]
        )
        since = GaugeMetricFamily(
            "towpath_hold_since_seconds", "When the stage began to wait, as a Unix time", labels=["stage"]
        )
        state = GaugeMetricFamily(
            "towpath_dependency_state",
            "1 for the state that a dependency is in, such as its circuit breaker's",
            labels=["stage", "dependency", "state"],
        )
        for page in self._pages:
            stage = page["stage"]
            healthy.add_metric([stage], float(page["healthy"]))
            for verdict, count in page.get("records", {}).items():
                if verdict == "aborted":
                    aborted.add_metric([stage], count)
                else:
                    outcomes.add_metric([stage, verdict], count)
            parked.add_metric([stage], page.get("parked", 0))
            paused.add_metric([stage], len(page.get("paused", ())))
            owned.add_metric([stage], len(page.get("partitions", ())))
            if hold := page.get("waits_for"):
                waits.add_metric([stage, hold["dependency"]], 1)
                since.add_metric([stage], hold["since"])
            for dependency, word in page.get("dependencies", {}).items():
                state.add_metric([stage, dependency, word], 1)
        yield from (healthy, outcomes, aborted, parked, paused, owned, waits, since, state)


def exposition(pages: Iterable[dict[str, Any]]) -> bytes:
    """The metrics of these pages as OpenMetrics text."""
    registry = CollectorRegistry()
    registry.register(Stages(pages))
    text: bytes = generate_latest(registry)  # type: ignore[no-untyped-call]  # it has no types
    return text
