"""Asynchronous handlers in the cycle: side by side, in order, in time."""

import asyncio

from streams.stage import Context, Stage
from streams.testing import Simulation
from streams.topology import Topology
from tests.support.moves import Answered, Asked, schemas


def numbers(flow: Simulation) -> list[int]:
    return [answer.number for answer in flow.outputs(Answered)]


def test_asynchronous_handlers_run_side_by_side_but_one_at_a_time_per_key() -> None:
    busy: dict[str, int] = {}
    most = 0
    stage = Stage("play", slots=3)

    @stage.on
    async def play(asked: Asked, ctx: Context) -> Answered:  # noqa: ARG001  # a handler's signature
        nonlocal most
        assert busy.setdefault(asked.who, 0) == 0
        busy[asked.who] += 1
        most = max(most, sum(busy.values()))
        await asyncio.sleep(0)
        busy[asked.who] -= 1
        return Answered(asked.who, asked.number, 0)

    with Simulation(Topology("moves", sources=[Asked], stages=[stage], sinks=[Answered], schemas=schemas())) as flow:
        for number in range(20):
            flow.produce(Asked(f"k{number % 5}", number))
        flow.run()
        assert most == 3
        for who in "k0", "k1", "k2", "k3", "k4":
            answered = [answer.number for answer in flow.outputs(Answered) if answer.who == who]
            assert answered == sorted(answered)
        assert len(numbers(flow)) == 20


def test_an_asynchronous_handler_that_does_not_answer_is_told_to_retry() -> None:
    stage = Stage("play", time_limit=0.01)

    @stage.on
    async def play(asked: Asked, ctx: Context) -> Answered:
        if ctx.attempt == 1:
            await asyncio.Event().wait()
        return Answered(asked.who, asked.number, 0)

    with Simulation(Topology("moves", sources=[Asked], stages=[stage], sinks=[Answered], schemas=schemas())) as flow:
        flow.produce(Asked("k", 1))
        flow.run()
        assert [parked.failure and parked.failure.message for parked in flow.parked("play")] == ["no answer within 0.01 s"]
        flow.run(seconds=1)
        assert numbers(flow) == [1]


def test_an_inner_task_that_was_cancelled_costs_its_event_an_attempt_and_no_other_event() -> None:
    stage = Stage("play", slots=1)

    @stage.on
    async def play(asked: Asked, ctx: Context) -> Answered:
        if asked.number == 1 and ctx.attempt == 1:
            inner = asyncio.ensure_future(asyncio.Event().wait())
            inner.cancel()
            await inner
        return Answered(asked.who, asked.number, 0)

    with Simulation(Topology("moves", sources=[Asked], stages=[stage], sinks=[Answered], schemas=schemas())) as flow:
        for number in range(4):
            flow.produce(Asked("k", number))
        flow.run(seconds=1)
        assert numbers(flow) == [0, 1, 2, 3]
