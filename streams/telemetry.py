"""Metrics: what stages, the lag exporter and a reconciliation say of themselves, as Prometheus reads it.

The one rule: a metric is read when it is asked for, and only what the catalogue names is shown. The cycle counts in plain
numbers and knows nothing of metrics.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, Exemplar, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from streams.catalogue import FAMILIES
from streams.kafka.stats import Statistics
from streams.tally import OTHER, Spread, Tally, Waiting

log = logging.getLogger("towpath.metrics")

MEDIA_TYPE: Final = openmetrics.CONTENT_TYPE_LATEST
_KAFKA: Final = "kafka"
_KINDS: Final[Mapping[str, Callable[..., Metric]]] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}

Sample = tuple[str, tuple[str, ...], float | Spread]
"""A metric of the catalogue, its labels' values in that order, and its value."""


def of_stage(
    topology: str, page: Mapping[str, Any], tally: Tally | None, waiting: Waiting | None, now: float
) -> Iterator[Sample]:
    """What a stage says of itself. `page` is its health page; one that has not begun has neither `tally` nor `waiting`."""
    stage = (topology, page["stage"])
    yield "towpath_stage_healthy", stage, float(page["healthy"])
    if tally is None or waiting is None:
        return
    yield from _of_page(stage, page, tally)
    yield from _of_tally(stage, tally)
    for kind in ("retry", "queued", "timer", "held"):
        yield "towpath_parked_records", (*stage, kind), getattr(waiting, kind)
    age = 0.0 if waiting.oldest is None else max(now - waiting.oldest / 1000, 0.0)
    yield "towpath_parked_oldest_seconds", stage, age


def _of_page(stage: tuple[str, str], page: Mapping[str, Any], tally: Tally) -> Iterator[Sample]:
    for verdict, count in page["records"].items():
        if verdict == "aborted":
            yield "towpath_transactions_aborted_total", stage, count
        else:
            yield "towpath_outcomes_total", (*stage, verdict), count
    yield "towpath_paused_partitions", stage, len(page["paused"])
    yield "towpath_owned_partitions", stage, len(page["partitions"])
    if hold := page["waits_for"]:
        known = hold["dependency"] if hold["dependency"] in tally.holds.counts else OTHER
        yield "towpath_dependency_away", (*stage, known), 1
        yield "towpath_hold_since_seconds", stage, hold["since"]
    for dependency, word in page.get("dependencies", {}).items():
        yield "towpath_dependency_state", (*stage, dependency, word), 1


def _of_tally(stage: tuple[str, str], tally: Tally) -> Iterator[Sample]:
    yield "messaging_process_duration_seconds", (*stage, _KAFKA, "process"), tally.process
    for topic, count in tally.consumed.items():
        yield "messaging_client_consumed_messages_total", (*stage, _KAFKA, topic), count
    for topic, count in tally.sent.items():
        yield "messaging_client_sent_messages_total", (*stage, _KAFKA, topic), count
    for error, count in tally.dead.counts.items():
        yield "towpath_dead_total", (*stage, error), count
    for dependency, count in tally.holds.counts.items():
        yield "towpath_holds_total", (*stage, dependency), count
    for outcome, spread in tally.flow.items():
        yield "towpath_e2e_duration_seconds", (*stage, outcome), spread
    yield "towpath_retries_total", stage, tally.retried
    yield "towpath_stage_wait_seconds", stage, tally.wait
    yield "towpath_stage_duration_seconds", stage, tally.duration
    yield "towpath_transaction_duration_seconds", stage, tally.transaction
    yield "towpath_transaction_records", stage, tally.sizes
    yield "towpath_restore_duration_seconds", stage, tally.restore


def of_worker(topology: str, version: str, late: Spread, spans: tuple[int, int] | None = None) -> Iterator[Sample]:
    """What a worker process says beside its stages: which code it runs, and how late its event loop wakes.

    `spans`: how many were sent and dropped, if there are traces.
    """
    yield "towpath_build_info", (topology, version), 1
    yield "towpath_event_loop_lag_seconds", (topology,), late
    if spans is not None:
        yield "towpath_spans_sent_total", (topology,), spans[0]
        yield "towpath_spans_dropped_total", (topology,), spans[1]


def of_store(stage: tuple[str, str], took: Spread, hits: int) -> Iterator[Sample]:
    """What a stage's database says."""
    yield "towpath_store_batch_duration_seconds", stage, took
    yield "towpath_store_inbox_hits_total", stage, hits


def of_clients(stage: tuple[str, str], statistics: Statistics) -> Iterator[Sample]:
    """What librdkafka says of a stage's clients."""
    for role, client in statistics.clients.copy().items():
        yield "towpath_kafka_rtt_seconds", (*stage, role), client.rtt
        yield "towpath_kafka_queue_records", (*stage, role), client.queue
        yield "towpath_kafka_request_errors_total", (*stage, role), client.errors
        yield "towpath_kafka_brokers_up", (*stage, role), client.up
    yield "towpath_kafka_rebalances_total", stage, statistics.rebalances


class _Samples:
    """A Prometheus collector over samples."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._samples = list(samples)

    def collect(self) -> Iterator[Metric]:
        """Each metric once, in the order in which they first came."""
        found: dict[str, Metric] = {}
        for name, labels, value in self._samples:
            if (metric := found.get(name)) is None:
                metric = found[name] = _metric(name)
            if len(labels) != len(FAMILIES[name].labels):
                raise ValueError(f"{name} has the labels {FAMILIES[name].labels}, not {labels}")
            if isinstance(value, Spread):
                metric.add_metric(labels, _buckets(value), value.total)  # type: ignore[attr-defined]  # of its subclasses
            else:
                metric.add_metric(labels, value)  # type: ignore[attr-defined]  # as above
        yield from found.values()


def _metric(name: str) -> Metric:
    family = FAMILIES[name]
    return _KINDS[family.kind](name, family.what, labels=family.labels)


def _buckets(spread: Spread) -> list[tuple[str, float, Exemplar | None]]:
    """Cumulative, as Prometheus has them."""
    found: list[tuple[str, float, Exemplar | None]] = []
    total = 0
    for index, bound in enumerate((*map(float, spread.bounds), float("inf"))):
        total += spread.counts[index]
        shown = spread.exemplars.get(index)
        exemplar = Exemplar({"trace_id": shown.trace}, shown.value, shown.at) if shown else None
        found.append(("+Inf" if bound == float("inf") else str(bound), total, exemplar))
    return found


def exposition(samples: Iterable[Sample], *, process: bool = False, more: Iterable[Metric] = ()) -> bytes:
    """OpenMetrics; with `process` also what there is to say of this one, and `more` that comes from elsewhere."""
    registry = CollectorRegistry()
    if process:
        ProcessCollector(registry=registry)
    registry.register(_Samples(samples))
    registry.register(_Ready(more))
    text: bytes = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]  # it has no types
    return text


def textfile(samples: Iterable[Sample]) -> bytes:
    """Prometheus' older text format, which node exporter's textfile collector reads."""
    registry = CollectorRegistry()
    registry.register(_Samples(samples))
    return generate_latest(registry)


def readable(text: str, names: Collection[str]) -> list[Metric]:
    """The metrics of these names in a text file; none where somebody has written something else into it."""
    try:
        return [metric for metric in parse_text(text) if metric.name in names]
    except ValueError:
        log.warning("a file with metrics cannot be read; it is left out")
        return []


class _Ready:
    """A collector over metrics that are made already."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def read(text: str) -> list[tuple[str, dict[str, str], float]]:
    """Name, labels and value of each sample of an OpenMetrics page. Raises `ValueError` for text that is none."""
    found = parse_openmetrics(text)  # type: ignore[no-untyped-call]  # it has no types
    return [(sample.name, dict(sample.labels), sample.value) for family in found for sample in family.samples]
