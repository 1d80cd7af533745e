"""How many series a stage may come to: bounded, whatever handlers raise and producers send."""

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from streams.errors import Unavailable
from streams.record import BORN
from streams.stage import Backoff, Context, Stage
from streams.testing import Simulation
from streams.topology import Topology
from tests.support.measured import page, standing, tallied
from tests.support.moves import Answered, Asked, schemas

BUDGET = 600
HOSTILE = Stage("play", retry=Backoff(attempts=1))


@HOSTILE.on
def play(asked: Asked, _: Context) -> tuple[Answered, ...]:
    """Errors of ever new kinds, and dependencies of ever new names."""
    if asked.moves[:1] == ("away",) and asked.number not in SEEN:
        SEEN.add(asked.number)
        raise Unavailable(f"dependency of {asked.who}")
    if asked.moves[:1] == ("odd",):
        raise type(f"Error{asked.who}" * 20, (Exception,), {})
    return (Answered(asked.who, asked.number, 0),)


SEEN: set[int] = set()


def test_a_hostile_run_stays_within_the_budget_and_shows_no_key() -> None:
    topology = Topology("moves", sources=[Asked], stages=[HOSTILE], sinks=[Answered], partitions=2, schemas=schemas())
    with Simulation(topology) as flow:
        worker = flow.workers[0]
        tallied(flow, worker)
        for number in range(120):
            word = ("away", "odd", "done")[number % 3]
            flow.produce(Asked(f"secret-{number}", number, (word,)), ((BORN, b"%d" % number), (f"h{number}", b"x")))
            flow.run(seconds=3)
            flow.broker.produce("moves.asked", b"secret-key", b"\x00bad" + bytes([number]), ())
        flow.run(seconds=60)
        assert len(flow.outputs(Answered)) == 80, "this run shows nothing"
        text = page(standing(flow, worker))
    families = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]  # it has no types
    series = [sample for family in families for sample in family.samples]
    assert len(series) < BUDGET, len(series)
    words = {value for sample in series for value in sample.labels.values()}
    assert max(map(len, words)) <= 64
    assert not [word for word in words if "secret-key" in word or word.startswith("secret")]
    errors = {sample.labels["error"] for sample in series if sample.name == "towpath_dead_total"}
    assert len(errors) == 21, "the first 20, and the rest together"
    held = {sample.labels["dependency"] for sample in series if sample.name == "towpath_holds_total"}
    assert len(held) == 11
