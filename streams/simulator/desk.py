"""Operators in a simulated run: the real desk, on the broker in memory.

The one rule: what is decided, and what is written with it, is `streams.ops.redrive`'s doing; here is only where it goes.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from streams import names
from streams.codec import Codec
from streams.dead import CASE, LAST_FAILED, Case, original, unbury
from streams.errors import Aborted
from streams.memory.broker import Clock
from streams.memory.session import MemoryBroker
from streams.ops.cases import Book
from streams.ops.redrive import Desk
from streams.record import Output, Record
from streams.topology import Topology


class SimulatedDesk(Desk):
    """An operator who has sat down: whoever sat there before is fenced."""

    def __init__(self, broker: MemoryBroker, topology: Topology, codec: Codec) -> None:
        self._clock: Clock = broker.clock
        writer = _Writer(broker, names.cases_operator(topology.name))
        super().__init__(cast("Book", _Book(broker, topology, codec)), "operator", "simulated", writer=writer)

    def now(self) -> datetime:
        """The clock's."""
        return datetime.fromtimestamp(int(self._clock.now() * 1000) / 1000, UTC)


class _Book:
    """Cases and letters, read from memory; of `streams.ops.cases.Book` what a desk asks for."""

    def __init__(self, broker: MemoryBroker, topology: Topology, codec: Codec) -> None:
        self.topology = topology
        self.codec = codec
        self.cases: dict[str, Case] = {}
        self._broker = broker

    def read(self, *, decided: bool = False) -> None:  # noqa: ARG002  # as `Book`; the desk's own transaction is ended by now
        """Read on to the end."""
        decode: Any = self.codec.decoder(Case)
        for record in self._broker.read(names.cases(self.topology.name)):
            case = decode(record.value)
            self.cases[case.case_id] = case

    def letters(self, cases: Sequence[Case]) -> Iterator[tuple[Case, Record]]:
        """Each case with the record that it is about, as it died."""
        wanted = {(case.case_id, case.last_failed_at.isoformat(timespec="milliseconds")): case for case in cases}
        for stage in sorted({case.stage for case in cases}):
            for letter in self._broker.read(names.dlq(self.topology.name, stage)):
                _, ours = unbury(letter)
                case = wanted.pop((ours.get(CASE, ""), ours.get(LAST_FAILED, "")), None)
                record = original(letter)
                if case is not None and record is not None:
                    yield case, record


class _Writer:
    def __init__(self, broker: MemoryBroker, transactional_id: str) -> None:
        self._broker, self._id = broker, transactional_id
        self.renew()

    def renew(self) -> None:
        """Take over again."""
        self._producer = self._broker.producer(self._id)

    def write(self, outputs: Sequence[Output]) -> None:
        """One transaction."""
        self._producer.begin()
        try:
            for output in outputs:
                self._producer.send(output)
            self._producer.commit()
        except Aborted:
            self._producer.abort()
            raise

    def close(self) -> None:
        """There is nothing to let go of."""
