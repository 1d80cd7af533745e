"""Latency: how long one order takes through four stages, at a steady rate, beside a row of bare copies.

An order passes five transactions, since inventory has it twice (it reserves, then it ships), so there are five copies.
The flow runs on PostgreSQL, as the demo does; the copies have no database.

The one rule: the load is open loop. Time runs from the moment at which an order was meant to be sent, whatever the flow does,
to the moment at which a read_committed reader has its last event in hand; the first orders after the start count as well.
"""

import threading
import time
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Final

import msgspec
from confluent_kafka import Consumer, Producer, TopicPartition

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
_PATIENCE: Final = 30.0  # seconds for the last order
_BARE_BATCH: Final = 2000


def measure(ground: Ground, *, quick: bool) -> dict[str, Any]:
    """Both chains at 50 and at 100 orders per second, by turns; before that each once on the broker as it has just started."""
    seconds, rounds = (5, 1) if quick else (30, 3)
    ground.make_topics(_CHAIN)
    with LocalPostgres.start(ground.directory / "postgres") as database:
        migrate.upgrade(database.url, migrate.stores(flow))
        chains = {"towpath": partial(_towpath, ground, database.url), "bare": partial(_bare, ground)}
        first = {
            name: _summary([chain("first", list(some_orders(500, f"{name}-first-")), 100)]) for name, chain in chains.items()
        }
        rates: dict[str, Any] = {}
        for rate in (50, 100):
            runs: dict[str, list[dict[str, Any]]] = {name: [] for name in chains}
            for number in range(rounds):
                for name, chain in chains.items():
                    orders = list(some_orders(rate * seconds, f"{name}-{rate}-{number}-"))
                    runs[name].append(chain(f"{rate}-{number}", orders, rate))
            rates[f"{rate} orders/s"] = {name: _summary(found) for name, found in runs.items()}
    return {"what": __doc__, "rates": rates, "first run after the broker's start, 100 orders/s": first}


def _towpath(ground: Ground, store: str, name: str, orders: Sequence[OrderSubmitted], rate: float) -> dict[str, Any]:
    settings = ground.settings(f"towpath-{name}", store)
    seed(settings, [msgspec.to_builtins(order) for order in orders], short=0)
    with Processes(settings.directory) as processes:
        for stage in _STAGES:
            processes.worker(settings, "topologies.orders", stage)
        processes.wait_until_ready()
        return _drive(ground, _PATH, orders, rate)


def _bare(ground: Ground, name: str, orders: Sequence[OrderSubmitted], rate: float) -> dict[str, Any]:
    settings = ground.settings(f"bare-{name}")
    with Processes(settings.directory) as processes:
        for source, target in pairwise(_CHAIN):
            processes.bare(ground.bootstrap, f"bench.{source}", source, target, _BARE_BATCH)
        processes.wait_until_ready()
        return _drive(ground, _CHAIN, orders, rate)


def _drive(ground: Ground, path: Sequence[str], orders: Sequence[OrderSubmitted], rate: float) -> dict[str, Any]:
    """Send at the rate and watch every topic of the path."""
    records = list(encoded(orders))
    meant: dict[bytes, float] = {}
    seen: dict[str, dict[bytes, float]] = {topic: {} for topic in path}
    consumer = _reader(ground.bootstrap, path)
    sender = threading.Thread(target=_send, args=(ground.bootstrap, path[0], records, rate, meant))
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


def _send(bootstrap: str, topic: str, records: Sequence[tuple[bytes, bytes]], rate: float, meant: dict[bytes, float]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "linger.ms": 0})
    producer.list_topics(topic)
    start = time.monotonic() + 0.1
    for number, (key, value) in enumerate(records):
        due = meant[key] = start + number / rate
        while (wait := due - time.monotonic()) > 0:
            time.sleep(wait)
        producer.produce(topic, value, key, headers=list(HEADERS))
        producer.poll(0)
    producer.flush(10)


def _summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """In milliseconds, over all runs, the first orders included."""
    every = [1000 * value for run in runs for value in run["all"]]
    until = {topic: [1000 * value for run in runs for value in run["until"][topic]] for topic in runs[0]["until"]}
    return {
        "orders": len(every),
        "p50": quantile(every, 0.5),
        "p99": quantile(every, 0.99),
        "max": max(every),
        "p99 of each run": [1000 * quantile(run["all"], 0.99) for run in runs],
        "slowest of the first 20 of each run": [1000 * max(run["all"][:20]) for run in runs],
        "p50 until visible in": {topic: quantile(values, 0.5) for topic, values in until.items()},
        "p99 until visible in": {topic: quantile(values, 0.99) for topic, values in until.items()},
    }
