"""Latency: how long one order takes through four stages, at a steady rate, beside a row of bare copies.

An order passes five transactions, since inventory has it twice (it reserves, then it ships), so there are five copies.
The flow runs on PostgreSQL, as the demo does; the copies have no database.

The one rule: the load is open loop, so that nothing is omitted while the flow stands still. Time runs from the moment at which
an order was meant to be sent, whatever the flow does, to the moment at which a read_committed reader has its last event in its
hands; the first orders after the start count as well. Every time is in an HdrHistogram of three digits.
"""

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Final

import msgspec
from confluent_kafka import Consumer, Producer, TopicPartition
from hdrh.histogram import HdrHistogram

from streams import migrate
from streams.postgres import LocalPostgres
from tests.bench.ground import HEADERS, PARTITIONS, SUBMITTED, Ground, encoded, quantile, some_orders
from tests.bench.processes import Processes
from topologies.orders import orders as flow
from topologies.orders.events import OrderSubmitted
from topologies.orders.seed import seed

_FURTHER: Final = ("orders.accepted", "inventory.reserved", "payments.captured", "orders.closed", "notifications.sent")
_PATH: Final = (SUBMITTED, *_FURTHER)
_STAGES: Final = ("intake", "inventory", "payment", "notification")
_CHAIN: Final = tuple(f"bare.{number}" for number in range(len(_PATH)))
_PATIENCE: Final = 60.0  # seconds for the last order
_BARE_BATCH: Final = 2000
RATES: Final = (10, 100, 500)
"""Orders per second."""
SHARES: Final = (0, 10, 25, 50, 75, 90, 95, 99, 99.9, 100)
Loads = Mapping[int, Sequence[OrderSubmitted]]
Runs = dict[int, dict[str, Any]]


def measure(ground: Ground, *, quick: bool) -> dict[str, Any]:
    """Both chains by turns, each started once in a turn and driven at one rate after the other."""
    seconds, rounds = (3, 1) if quick else (15, 2)
    ground.make_topics(_CHAIN)
    with LocalPostgres.start(ground.directory / "postgres") as database:
        migrate.upgrade(database.url, migrate.stores(flow))
        chains = {"towpath": partial(_towpath, ground, database.url), "bare": partial(_bare, ground)}
        runs: dict[str, list[Runs]] = {name: [] for name in chains}
        for number in range(rounds):
            for name, chain in chains.items():
                loads = {rate: list(some_orders(rate * seconds, f"{name}-{rate}-{number}-")) for rate in RATES}
                runs[name].append(chain(str(number), loads))
    return {
        "what": __doc__,
        "seconds": seconds,
        "rates": {
            f"{rate} orders/s": {name: _summary([run[rate] for run in found]) for name, found in runs.items()} for rate in RATES
        },
    }


def _towpath(ground: Ground, store: str, name: str, loads: Loads) -> Runs:
    settings = ground.settings(f"towpath-{name}", store)
    seed(settings, [msgspec.to_builtins(order) for orders in loads.values() for order in orders], short=0)
    with Processes(settings.directory) as processes:
        for stage in _STAGES:
            processes.worker(settings, "topologies.orders", stage)
        processes.wait_until_ready()
        return {rate: _drive(ground, _PATH, orders, rate) for rate, orders in loads.items()}


def _bare(ground: Ground, name: str, loads: Loads) -> Runs:
    settings = ground.settings(f"bare-{name}")
    with Processes(settings.directory) as processes:
        for source, target in pairwise(_CHAIN):
            processes.bare(ground.bootstrap, f"bench.{source}", source, target, _BARE_BATCH)
        processes.wait_until_ready()
        return {rate: _drive(ground, _CHAIN, orders, rate) for rate, orders in loads.items()}


def _drive(ground: Ground, path: Sequence[str], orders: Sequence[OrderSubmitted], rate: float) -> dict[str, Any]:
    """Send at the rate and watch every topic of the path."""
    records = list(encoded(orders))
    meant: dict[bytes, float] = {}
    seen: dict[str, dict[bytes, float]] = {topic: {} for topic in path}
    consumer = _reader(ground.bootstrap, path)
    sender = threading.Thread(target=send, args=(ground.bootstrap, path[0], records, rate, meant))
    sender.start()
    deadline = time.monotonic() + len(records) / rate + _PATIENCE
    while len(seen[path[-1]]) < len(records) and time.monotonic() < deadline:
        for message in [*consumer.consume(1, 0.05), *consumer.consume(500, 0)]:  # it waits for as many as it is asked for
            if not message.error():
                seen[message.topic()].setdefault(message.key(), time.monotonic())
    sender.join()
    consumer.close()
    arrived = seen[path[-1]]
    if len(arrived) < len(records):
        raise SystemExit(f"only {len(arrived)} of {len(records)} orders have come through")
    until = {topic: [seen[topic][key] - meant[key] for key, _ in records if key in seen[topic]] for topic in path}
    return {"all": [arrived[key] - meant[key] for key, _ in records], "until": until}


def _reader(bootstrap: str, path: Sequence[str]) -> Any:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "bench-reader",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "fetch.queue.backoff.ms": 5,
        }
    )
    ends = []
    for topic in path:
        for partition in range(PARTITIONS):
            _, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), 10)
            ends.append(TopicPartition(topic, partition, high))
    consumer.assign(ends)
    consumer.consume(1, 0.5)
    return consumer


def send(
    bootstrap: str, topic: str, records: Iterable[tuple[bytes, bytes]], rate: float, meant: dict[bytes, float] | None = None
) -> None:
    """Send record n at n/rate seconds after the start, whatever has become of those before; `meant` is told when."""
    producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "linger.ms": 0})
    producer.list_topics(topic)
    start = time.monotonic() + 0.1
    for number, (key, value) in enumerate(records):
        due = start + number / rate
        if meant is not None:
            meant[key] = due
        while (wait := due - time.monotonic()) > 0:
            time.sleep(wait)
        producer.produce(topic, value, key, headers=list(HEADERS))
        producer.poll(0)
    producer.flush(10)


def _summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """In milliseconds, over all runs, the first orders included."""
    every = _histogram(value for run in runs for value in run["all"])
    until = {topic: _histogram(value for run in runs for value in run["until"][topic]) for topic in runs[0]["until"]}
    return {
        "orders": every.get_total_count(),
        "p50": _at(every, 50),
        "p99": _at(every, 99),
        "max": every.get_max_value() / 1000,
        "percentiles": {str(share): _at(every, share) for share in SHARES},
        "p99 of each run": [1000 * quantile(run["all"], 0.99) for run in runs],
        "slowest of the first 20 of each run": [1000 * max(run["all"][:20]) for run in runs],
        "p50 until visible in": {topic: _at(values, 50) for topic, values in until.items()},
        "p99 until visible in": {topic: _at(values, 99) for topic, values in until.items()},
    }


def _histogram(seconds: Iterable[float]) -> Any:
    """In microseconds, up to five minutes."""
    histogram = HdrHistogram(1, 300_000_000, 3)
    for value in seconds:
        histogram.record_value(max(1, round(value * 1e6)))
    return histogram


def _at(histogram: Any, share: float) -> float:
    """Milliseconds that this share (percent) of all times does not exceed."""
    return float(histogram.get_value_at_percentile(share)) / 1000
