"""Bugs that somebody could make, each found by the simulator; if one is not, the simulator is not done."""

import pytest

from streams.simulator import play
from streams.simulator.campaign import scheduled
from tests.simulation.mutations import MUTATIONS, RARE, Mutation
from tests.simulation.test_simulator import kit

SEEDS = 100


@pytest.mark.parametrize("mutation", [each for each in MUTATIONS if each not in RARE], ids=lambda each: str(each.__name__))
def test_it_is_found(mutation: Mutation) -> None:
    """Within a few dozen seeds; `python -m tests.simulation` looks for the rare ones as well, in 2,000."""
    where = kit(MUTATIONS[mutation])
    with mutation():
        assert any(play(where, scheduled(where, seed)).findings for seed in range(SEEDS))
