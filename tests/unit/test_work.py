"""What a transaction's work tells its database before the first event is handled."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

from streams.codec import Codec
from streams.dead import Case, DeadLetters
from streams.engine import _drive
from streams.lanes import Lanes
from streams.process import Effects, Processor, Verdict
from streams.record import Output, Record
from streams.registry import FolderRegistry
from streams.stage import Context, Stage
from streams.work import Crew, Work
from topologies.orders import orders
from topologies.orders.events import OrderCancelled

CODEC = Codec([OrderCancelled, Case], FolderRegistry(orders.schemas))
handled: list[str] = []
stage = Stage("noting")


@stage.on
def note(cancelled: OrderCancelled, _: Context) -> None:
    handled.append(cancelled.order_id)


class Journal:
    """Remembers what it was told to expect."""

    repository = None

    def __init__(self) -> None:
        self.expected: list[str] = []

    def recorded(self, _: str) -> None: ...

    def record(self, event_id: str, outputs: Sequence[Output], record: Record) -> None: ...

    def expect(self, events: Callable[[], list[OrderCancelled]]) -> None:
        self.expected += [event.order_id for event in events()]

    def savepoint(self) -> AbstractContextManager[None]:
        return nullcontext()


class Database:
    """One journal for all."""

    def __init__(self) -> None:
        self.journal = Journal()

    @contextmanager
    def batch(self, *_: object) -> Iterator[Journal]:
        yield self.journal


def work(records: Sequence[Record], decoded: list[bytes | None], **more: Any) -> tuple[Work, Journal]:
    """Run them; `decoded` gets each value as it is decoded."""
    processor, database = Processor(stage, CODEC, {}), Database()
    ((topic, (decode, *rest)),) = processor._inputs.items()

    def watched(value: bytes | None) -> Any:
        decoded.append(value)
        return decode(value)

    processor._inputs[topic] = (watched, *rest)  # type: ignore[assignment]
    lanes = Lanes("retry", "token", stage.order, frozenset())
    lanes.gained(0)
    crew = Crew(stage, processor, DeadLetters("orders", "noting", CODEC, who="me"), cast("Effects", database))
    done = Work(crew, lanes.cycle(1.0), **more)
    handled.clear()
    _drive(done.run((), records))
    return done, database.journal


def records() -> list[Record]:
    values = [CODEC.encoder(OrderCancelled)(OrderCancelled(name, "", "me")) for name in "abc"]
    return [Record("orders.cancelled", 0, offset, b"k%d" % offset, value) for offset, value in enumerate(values)]


def test_an_event_is_decoded_once_for_the_database_and_its_handler() -> None:
    decoded: list[bytes | None] = []
    _, journal = work(records(), decoded)
    assert (journal.expected, handled) == (["a", "b", "c"], ["a", "b", "c"])
    assert decoded == [record.value for record in records()]


def test_what_has_killed_three_processes_is_not_even_decoded() -> None:
    decoded: list[bytes | None] = []
    first, killer, last = records()
    done, journal = work([first, killer, last], decoded, condemned=frozenset({killer.place}))
    assert (journal.expected, handled) == (["a", "c"], ["a", "c"])
    assert killer.value not in decoded
    assert done.crashed == [killer.place]
    assert done.verdicts == {Verdict.DONE: 2, Verdict.CRASHED: 1}


def test_an_event_that_cannot_be_decoded_is_expected_by_nobody() -> None:
    bad = Record("orders.cancelled", 0, 3, b"k", b"no event")
    done, journal = work([*records(), bad], [])
    assert journal.expected == ["a", "b", "c"]
    assert done.verdicts == {Verdict.DONE: 3, Verdict.UNDECODABLE: 1}
