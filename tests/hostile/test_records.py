"""Hostile records through the real stages in memory: each ends as the catalogue says, and the order behind it goes through."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams import migrate, names
from streams.config import Settings
from streams.testing import Simulation
from tests.hostile.catalogue import MARK, SHELVES, SUBMITTED, Hostile, order, order_id
from tests.hostile.ends import Ends
from tests.hostile.records import RECORDS
from topologies.orders import orders
from topologies.orders.ports import OwnProvider, psp
from topologies.orders.seed import seed


class Arena:
    """The order flow at work in memory, with something on its shelves."""

    def __init__(self, folder: Path) -> None:
        settings = Settings(store=f"sqlite:///{folder / 'store.db'}", directory=folder)
        migrate.upgrade(settings.store, migrate.stores(orders))
        seed(settings, [SHELVES], short=0)
        self.flow = Simulation(orders, settings=settings, ports={psp: OwnProvider(0.0)})
        self._turns = itertools.cycle(range(orders.partitions))

    def send(self, case: Hostile) -> str:
        """Send it, and behind it in the same partition a good order, whose number is returned."""
        partition = next(self._turns) if case.partition is None else case.partition
        self.flow.broker.produce(case.topic, case.key, case.value, tuple(case.marked), partition)
        good = order_id(f"behind-{case.name}", partition, orders.partitions)
        self.flow.broker.produce(SUBMITTED, good.encode(), order(good), ((MARK, good.encode()),), partition)
        return good

    def ends(self) -> Ends:
        broker = self.flow.broker
        letters = {stage.name: self.flow.letters(stage.name) for stage in orders.stages}
        return Ends(letters, broker.read("notifications.sent"), broker.read(names.cases(orders.name)))


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    arena = Arena(tmp_path_factory.mktemp("hostile"))
    with arena.flow:
        yield arena


@pytest.mark.parametrize("case", RECORDS, ids=lambda case: case.name)
def test_a_hostile_record_ends_as_it_should_and_the_order_behind_it_goes_through(arena: Arena, case: Hostile) -> None:
    good = arena.send(case)
    arena.flow.run(seconds=120 if case.end == "retry" else 0)
    ends = arena.ends()
    assert [worker.ended for worker in arena.flow.workers] == [""] * len(orders.stages)
    ends.check(case)
    assert ends.endings.get(good) == "confirmed"


def test_the_catalogue_names_each_case_once() -> None:
    assert len({case.name for case in RECORDS}) == len(RECORDS) >= 60
