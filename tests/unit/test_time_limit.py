"""An asynchronous handler that does not come back costs one attempt, and keeps nobody else waiting."""

import asyncio

from streams.stage import Context, Stage
from streams.testing import Simulation
from streams.topology import Topology
from tests.support.moves import BACKOFF, Answered, Asked, schemas

play = Stage("play", retry=BACKOFF, time_limit=0.05)


@play.on
async def ask(asked: Asked, ctx: Context) -> Answered:
    """Never answer where the first move is `retry` and this is the first attempt."""
    if ctx.attempt == 1 and "retry" in asked.moves:
        await asyncio.Event().wait()
    return Answered(asked.who, asked.number, ctx.attempt)


flow = Topology("moves", sources=[Asked], stages=[play], sinks=[Answered], partitions=1, schemas=schemas())


def test_a_handler_that_does_not_return_in_time_is_told_to_retry() -> None:
    with Simulation(flow) as moves:
        for number, words in enumerate([(), ("retry",), ()]):
            moves.produce(Asked(f"k{number}", number, words))
        moves.run()
        assert sorted(answer.number for answer in moves.outputs(Answered)) == [0, 2]
        (parked,) = moves.parked("play")
        assert parked.attempt == 1
        assert parked.failure
        assert (parked.failure.kind, parked.failure.message) == ("Retry", "no answer within 0.05 s")
        moves.run(seconds=10)
        assert [(answer.number, answer.index) for answer in moves.outputs(Answered) if answer.number == 1] == [(1, 2)]
        assert moves.parked("play") == []
