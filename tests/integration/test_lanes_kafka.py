"""The promise of the lanes, on a real Kafka with real processes: nothing missing, doubled, out of order or left parked.

TOWPATH_LONG=1 sends 60,000 records instead of 6,000. A seed in TOWPATH_SEED repeats the blows of a failed run.
"""

import os
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from streams.local import FAILOVER, LocalKafka
from tests.support.flow import STAGES, Flow
from tests.support.pump import Blow, Pump
from tests.support.reader import Reader
from tests.support.workers import Worker

TOTAL = 60_000 if os.environ.get("TOWPATH_LONG") else 6_000
KEYS = 300
QUICK = {
    "group.consumer.session.timeout.ms": "3000",
    # No sooner: a broker that has just come up, and gives up a transaction before its partitions have leaders again, forgets
    # their markers (Kafka 4.3.1), and no reader ever gets past it. The default is 10000.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "6000",
}
Kind = Callable[[Worker], Blow | None]
KAFKA = {
    "consumer": "group.protocol=consumer;transaction.timeout.ms=6000",
    "classic": "group.protocol=classic;session.timeout.ms=3000;heartbeat.interval.ms=500;transaction.timeout.ms=6000",
}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    """One that may be killed."""
    with LocalKafka.start(tmp_path_factory.mktemp("broker"), overrides={**FAILOVER, **QUICK}) as kafka:
        yield kafka


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
@pytest.mark.timeout(1200 if TOTAL > 6_000 else 300)
def test_nothing_is_lost_doubled_or_overtaken_whatever_is_killed(tmp_path: Path, broker: LocalKafka, protocol: str) -> None:
    seed = int(os.environ.get("TOWPATH_SEED", random.randrange(10**6)))
    print(f"TOWPATH_SEED={seed}")  # noqa: T201  # to repeat a failed run
    chance = random.Random(seed)
    with Flow(tmp_path, broker.bootstrap, KAFKA[protocol]) as flow:
        for instance in ("a", "b", "c"):
            flow.worker(instance)
        with Reader(broker.bootstrap, [*flow.events, *flow.dlqs, *flow.retries]) as reader:
            flow.wait_until_ready()
            pump = Pump(
                reader,
                flow,
                send=lambda number: flow.send(f"k{number * 7919 % KEYS}", number // KEYS),
                ended=lambda: reader.count(*flow.ends),
            )
            pump.run(TOTAL, 500, blows(flow, broker, chance))
            flow.wait_until_ready()
            for worker in flow.workers:
                assert worker.terminate()[0] == 0
            reader.to_end()
            flow.check(reader.records)
    for worker in flow.workers:
        assert "Traceback" not in worker.log


def at_work(worker: Worker) -> bool:
    """Whether it has something to lose."""
    owned = worker.owned()
    return all(owned.get(stage) for stage in STAGES)


def blows(flow: Flow, broker: LocalKafka, chance: random.Random) -> list[Blow]:
    """Eight of them, in any order, on any worker."""

    def kill_and_start(worker: Worker) -> None:
        worker.kill()
        worker.start()

    def kill_and_wait(worker: Worker) -> Blow:
        worker.kill()
        flow.workers.remove(worker)  # nobody starts it again until the others have taken over

        def back() -> None:
            flow.workers.append(worker)
            worker.start()

        return Blow(0, f"start {worker.name}", back, flow.owners)

    def terminate(worker: Worker) -> None:
        _, seconds = worker.terminate()  # not 0 if a broker that was away has cost it its transaction just now
        assert seconds < 10, worker.log[-3000:]
        worker.start()

    def freeze(worker: Worker) -> Blow:
        worker.freeze()
        return Blow(0, f"thaw {worker.name}", worker.thaw, lambda: flow.owners(but=worker))

    def broke(_: Worker) -> None:
        broker.kill()
        broker.launch()

    kinds: list[Kind] = [
        kill_and_start,
        kill_and_start,
        kill_and_wait,
        terminate,
        terminate,
        freeze,
        freeze,
        broke,
    ]
    chance.shuffle(kinds)
    moments = sorted(chance.sample(range(TOTAL // 20, TOTAL * 8 // 10), len(kinds)))
    found = []
    for at, kind in zip(moments, kinds, strict=True):
        worker = chance.choice(flow.workers)
        found.append(Blow(at, f"{kind.__name__} {worker.name}", partial(kind, worker), partial(at_work, worker)))
    return found
