"""A demo with faults: it orders them, counts what comes of them, and then does what an operator does.

The one rule: what is counted stands in topics and cases, and is held against what was foreseen.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import cycle, islice
from pathlib import Path
from typing import Final, Self

from confluent_kafka import Producer

from streams import names, topics
from streams.config import Settings
from streams.errors import TowpathError
from streams.ops.cases import Book, Filters
from streams.ops.reader import Reader
from streams.ops.redrive import Desk, Step
from streams.record import event_info
from streams.topology import Topology
from topologies.orders.demo.crew import Crew
from topologies.orders.demo.foresight import BAD, Foreseen
from topologies.orders.demo.watch import Watch
from topologies.orders.events import OrderSubmitted, PaymentDue
from topologies.orders.faults import Faults

_SUBMITTED: Final = event_info(OrderSubmitted).topic
_TIMERS: Final = f"{event_info(PaymentDue).topic}/".encode()  # deadlines wait on the table too, and nothing is wrong with them
_DIRT: Final = (b"", b'{"order_id": "this is no Avro"}', b"\0\0\0\xff\xffof no schema", b"\0\0\0\0\1cut o", None)


class Trouble:
    """The faults of one demo. As a context manager it is closed at the end."""

    def __init__(self, settings: Settings, topology: Topology, faults: Faults, foreseen: Foreseen) -> None:
        self._settings = settings
        self._topology = topology
        self._faults = faults
        self._foreseen = foreseen
        self._dlqs = {names.dlq(topology.name, stage.name) for stage in topology.stages}
        self._tables = {names.retry(topology.name, stage.name) for stage in topology.stages}
        self._reader = Reader(settings, [*self._dlqs, *self._tables], from_beginning=True)
        self._book = Book(settings, topology)
        # A client that is none of ours: ours would refuse to send what is no order.
        self._vandal = Producer(topics.properties(settings, {"partitioner": "murmur2_random"}), logger=topics.QUIET)
        self._dirt = list(enumerate(islice(cycle(_DIRT), BAD)))
        self._waited: set[bytes | None] = set()
        self._retried: set[tuple[bytes | None, bytes | None]] = set()
        self._dead = 0
        self._holds: dict[str, tuple[str, float]] = {}
        self._held: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._reader.__exit__(*exc)
        self._book.__exit__(*exc)

    @property
    def total(self) -> int:
        """Grows with whatever happens."""
        return len(self._waited) + len(self._retried) + self._dead + sum(map(len, self._decisions()))

    def look(self, watch: Watch, crew: Crew) -> None:
        """Do what is to be done at this point of the demo, and take in what has happened."""
        while self._dirt and watch.submitted >= self._dirt[0][0] * watch.orders // BAD:
            number, value = self._dirt.pop(0)
            self._vandal.produce(_SUBMITTED, value, f"no-order-{number}")
        self._vandal.flush(10)
        while records := self._reader.read(2000, 0.01):
            for record in records:
                if record.topic in self._dlqs:
                    self._dead += 1
                elif record.value is not None and not (record.key or b"").startswith(_TIMERS):
                    attempt = next((value for name, value in record.headers if name == "parked-attempt"), None)
                    self._waited.add(record.key)
                    if attempt != b"0":
                        self._retried.add((record.key, attempt))
        self._book.read()
        self._holds = {stage.name: hold for stage in self._topology.stages if (hold := crew.waits_for(stage.name))}
        for stage, (_, since) in self._holds.items():
            self._held[stage] = time.time() - since

    def settled(self, watch: Watch) -> bool:
        """Whether every order has ended or is an open case, and so is whatever was no order."""
        states = self._states()
        closed = len(watch.endings) + states["open"] + states["dismissed"] >= watch.orders + BAD
        answered = watch.answered or states["open"] > 0  # a dead reservation is answered when it is redriven
        return closed and answered and not states["redriven"] and not self._dirt and watch.caught_up

    def note(self) -> str:
        """What there is to be seen of it, for the display."""
        waiting = "".join(f"; {stage} waits for {dependency}" for stage, (dependency, _) in self._holds.items())
        return f"; {len(self._retried)} attempts failed, {self._states()['open']} cases open{waiting}"

    def mend(self, say: Callable[[str], None]) -> None:
        """What an operator does: mend what is broken, redrive what died of it, dismiss what is no order."""
        Path(self._faults.mended).touch()
        died = Filters().choose(self._book.cases)
        for verb, reason, cases in (
            ("redrive", "the provider and the mailer are mended", [case for case in died if case.verdict != "undecodable"]),
            ("dismiss", "this is no order", [case for case in died if case.verdict == "undecodable"]),
        ):
            say(f"{verb}: {len(cases)} open cases, because {reason}")
            with Desk(self._book, "demo", reason) as desk:
                _all_good(desk.redrive(cases) if verb == "redrive" else desk.dismiss(cases))

    def summary(self) -> str:
        """What went wrong and what became of it, in a few lines."""
        states = self._states()
        lines = [f"{'':<28}{'foreseen':>10}{'happened':>10}"]
        lines += [f"  {what:<26}{foreseen:>10,}{happened:>10,}" for what, foreseen, happened in self._books()]
        lines += [
            f"{stage} held for {seconds:.1f} s while a dependency was away, and went on by itself"
            for stage, seconds in self._held.items()
        ]
        lines.append(f"{len(self._waited):,} events waited on the tables for a retry or for the stage to go on")
        lines.append(
            f"cases: {sum(states.values())} opened, {states['resolved']} redriven and resolved, "
            f"{states['dismissed']} dismissed, {states['open']} open"
        )
        return "\n".join(lines) + "\n"

    def check(self, watch: Watch) -> None:
        """Raise `TowpathError` if it did not come as foreseen, or if an order is not accounted for."""
        wrong = [f"{what}: {happened}, not {foreseen}" for what, foreseen, happened in self._books() if foreseen != happened]
        states = self._states()
        if states["open"] or states["redriven"]:
            wrong.append(f"{states['open']} cases are open, {states['redriven']} redriven")
        if not len(watch.endings) == watch.orders == watch.submitted - BAD:
            wrong.append(f"{watch.submitted - BAD} orders submitted, {len(watch.endings)} ended")
        if "payment" not in self._held:
            wrong.append("payment never held")
        if wrong:
            raise TowpathError("the faults did not come as foreseen: " + "; ".join(wrong))

    def _books(self) -> list[tuple[str, int, int]]:
        foreseen, died = self._foreseen, Counter(case.verdict for case in self._book.cases.values())
        return [
            ("attempts made again", foreseen.retried, len(self._retried)),
            ("dead letters", foreseen.dead, self._dead),
            ("cases: bytes are no order", foreseen.undecodable, died["undecodable"]),
            ("cases: provider refuses", foreseen.refused, died["reject"]),
            ("cases: a bug", foreseen.bug, died["retry"]),
        ]

    def _states(self) -> Counter[str]:
        return Counter(case.state.value for case in self._book.cases.values())

    def _decisions(self) -> Iterable[tuple[object, ...]]:
        return (case.decisions for case in self._book.cases.values())


def _all_good(steps: Iterable[Step]) -> None:
    bad = [step for step in steps if not step.good]
    if bad:
        raise TowpathError(f"case {bad[0].case_id} could not be decided: {bad[0].done}, {bad[0].why}")
