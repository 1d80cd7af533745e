"""The laws of the machine, on a broker in memory: whatever fails, dies, freezes or is fenced, and in whatever order.

Hypothesis writes the story; at its end everything is let finish, and each input is accounted for.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Final, Literal

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from streams import names
from streams.codec import Codec
from streams.dead import Case, Decision, State, original, unbury
from streams.lanes import HELD, Lanes
from streams.parked import BY, Parked, place
from streams.record import Record
from streams.registry import FolderRegistry
from streams.testing import SimulatedWorker, Simulation
from streams.topology import Topology
from tests.property.accounts import Sent, check_ending, check_order, is_of, lanes
from tests.property.receipts import check_receipts
from tests.support import moves
from tests.support.moves import BACKOFF, Answered, Asked, Told, World, move

Order = Literal["key", "none"]
AfterDead = Literal["continue", "hold"]

TIMEOUT: Final = 10.0
TABLE: Final = names.retry("moves", "play")
CASES: Final = names.cases("moves")
WORDS: Final = st.sampled_from([*["done:1", "retry", "wait:4", "bug"] * 2, "done:0", "done:3", "wait:0", "reject", "die"])
MOVES: Final = st.one_of(st.lists(WORDS, max_size=1), st.lists(WORDS, min_size=3, max_size=4)).map(tuple)
Event = tuple[int, type, tuple[str, ...]]
EVENTS: Final = st.tuples(st.integers(0, 3), st.sampled_from([Asked, Asked, Told]), MOVES)
topology: Callable[..., Topology] = cache(moves.make)


class Machine(RuleBasedStateMachine):
    order: Order = "key"
    after_dead: AfterDead = "continue"
    asynchronous = False

    @initialize(events=st.lists(EVENTS, min_size=6, max_size=15))
    def open(self, events: list[Event]) -> None:
        self.world = World()
        made = topology(self.order, self.after_dead, asynchronous=self.asynchronous, batch=4, max_parked=6)
        self.flow: Simulation = moves.start(made, self.world, workers=2)
        self.codec = Codec([*made.events, Case], FolderRegistry(made.schemas))
        self.sent: dict[int, Sent] = {}
        self.places: dict[bytes, int] = {}
        self.frozen: dict[int, tuple[SimulatedWorker, list[Record]]] = {}
        self.made: dict[tuple[int, int], dict[int, float]] = defaultdict(dict)
        self.deaths = 0
        self.send(events)

    # -- what may happen ------------------------------------------------------------------------------------------------

    @rule(events=st.lists(EVENTS, min_size=1, max_size=6))
    def send(self, events: list[Event]) -> None:
        for who, cls, words in events:
            number = len(self.sent)
            record = self.flow.produce(cls(f"k{who}", number, words), ((f"n{number}", b"\xff"), ("id", b"%d" % number)))
            self.remember(number, record, words)

    @rule(who=st.integers(0, 3), value=st.sampled_from([None, b"", b"\0\0\0\0\x01", b"\xff" * 9]))
    def send_bytes(self, who: int, value: bytes | None) -> None:
        record = self.flow.broker.produce("moves.asked", b"k%d" % who, value, (("parked-by", b"me"), ("dead-origin", None)))
        self.remember(len(self.sent), record, None)

    def remember(self, number: int, record: Record, words: tuple[str, ...] | None) -> None:
        self.sent[number] = Sent(record, words)
        self.places[place(record)] = number

    @rule(rounds=st.integers(1, 4), seconds=st.sampled_from([0.0, 0.3, 1.0, 2.5, 5.0]))
    def work(self, rounds: int, seconds: float) -> None:
        self.flow.clock.advance(seconds)
        if not self.flow.workers:
            self.flow.start("play", "c")
        for _ in range(rounds):
            for worker in list(self.flow.workers):
                self.handle(worker, self.poll(worker))

    @rule(which=st.integers(0, 9))
    def freeze(self, which: int) -> None:
        """It has read, and goes on when others may have taken over."""
        if self.flow.workers:
            worker = self.flow.workers[which % len(self.flow.workers)]
            if id(worker) not in self.frozen:
                self.frozen[id(worker)] = worker, self.poll(worker)

    @rule(seconds=st.sampled_from([TIMEOUT, 100.0]))
    def wait(self, seconds: float) -> None:
        self.flow.clock.advance(seconds)

    @rule(instance=st.sampled_from("abc"), fault=st.sampled_from(["abort", "lost", "lost-happened", "crash", "crash-happened"]))
    def fault(self, instance: str, fault: str) -> None:
        broker, name = self.flow.broker, names.transactional_id("moves", "play", instance)
        kind, _, happened = fault.partition("-")
        if kind == "abort":
            broker.abort_next(name)
        elif kind == "lost":
            broker.lose_reply_next(name, happened=bool(happened))
        else:
            broker.crash_next(name, committed=bool(happened))

    @precondition(lambda self: len(self.flow.workers) > 1)
    @rule(which=st.integers(0, 9))
    def kill(self, which: int) -> None:
        worker = self.flow.workers[which % len(self.flow.workers)]
        self.frozen.pop(id(worker), None)
        worker.crash()
        self.deaths += 1

    @precondition(lambda self: len(self.flow.workers) > 1)
    @rule(which=st.integers(0, 9))
    def stop(self, which: int) -> None:
        worker = self.flow.workers[which % len(self.flow.workers)]
        if id(worker) not in self.frozen:
            worker.close()
            self.deaths += worker.ended == "crashed"

    @rule(instance=st.sampled_from("abc"))
    def start(self, instance: str) -> None:
        self.flow.start("play", instance)

    @rule()
    def dependency(self) -> None:
        self.world.away = not self.world.away

    @rule(tombstones=st.booleans())
    def clean(self, *, tombstones: bool) -> None:
        """Kafka keeps a tombstone for a day (`delete.retention.ms`): whoever reads on has read it before it goes."""
        ends = [log.stable for log in self.flow.broker.logs(TABLE)]
        if all(each.table_at >= ends[n] for worker in self.flow.workers for n, each in worker.session._owned.items()):
            self.flow.broker.compact(TABLE, drop_tombstones=tombstones)

    @rule(which=st.integers(0, 9), mend=st.booleans())
    def redrive(self, which: int, *, mend: bool) -> None:
        cases = [case for case in self.flow.cases() if case.state is State.OPEN]
        if cases:
            self.decide(cases[which % len(cases)], mend=mend)

    # -- how it happens -------------------------------------------------------------------------------------------------

    def poll(self, worker: SimulatedWorker) -> list[Record]:
        if id(worker) in self.frozen:
            return self.frozen.pop(id(worker))[1]
        records = worker.poll()
        if worker.ended:
            return []
        self.check_memory(worker)
        return records

    def handle(self, worker: SimulatedWorker, records: list[Record]) -> None:
        if worker.ended:
            return
        before = worker.engine.totals["aborted"]
        self.world.attempts.clear()
        if records or worker.engine.due():
            worker.handle(records)
        if worker.ended:
            self.deaths += 1
        elif worker.engine.totals["aborted"] == before:
            self.check_memory(worker)
            self.check_attempts()

    def decide(self, case: Case, *, mend: bool) -> None:
        """What the operators' tool does: the case and the record in one transaction."""
        letter = [each for each in self.flow.letters("play") if unbury(each)[1]["dead-case"] == case.case_id][-1]
        record = original(letter)
        assert record is not None
        number = self.places[place(record)]
        sent = self.sent[number]
        what = State.REDRIVEN
        if mend and sent.words is None:
            what, sent.dismissed = State.DISMISSED, True
        elif mend:
            self.world.mended.add(number)
            sent.mended = True
        at = datetime.fromtimestamp(self.flow.clock.now(), UTC)
        case = msgspec.structs.replace(case, state=what, decisions=(*case.decisions, Decision(at, "op", what, "why")))
        encoded = self.codec.encoder(Case)(case)
        producer = self.flow.broker.producer("operator")
        producer.begin()
        parked = Parked(record, -1, case=encoded).output(TABLE, "operator")
        if what is State.DISMISSED:
            parked = msgspec.structs.replace(parked, value=None, headers=((BY, b"operator"),))
        else:
            sent.redrives += 1
        producer.send(parked)
        producer.send(msgspec.structs.replace(parked, topic=CASES, key=case.case_id.encode(), value=encoded, partition=None))
        producer.commit()

    # -- laws of every moment -------------------------------------------------------------------------------------------

    def check_memory(self, worker: SimulatedWorker) -> None:
        """The lanes are what a fresh owner would make of the table."""
        logs = self.flow.broker.logs(TABLE)
        fresh = Lanes(TABLE, "", self.order)
        owned = [n for n, each in worker.session._owned.items() if each.claimed and each.table_at >= logs[n].stable]
        for number in owned:
            for record in logs[number].read(0, logs[number].end)[0]:
                fresh.load(record)
            fresh.gained(number)
        assert lanes(worker.engine.lanes, owned) == lanes(fresh, owned)

    def check_attempts(self) -> None:
        """No attempt before its time, and none too many."""
        for number, attempt, now in self.world.attempts:
            assert attempt <= BACKOFF.attempts
            made = self.made[number, self.sent[number].redrives]
            made[attempt] = now
            if attempt - 1 in made and number not in self.world.mended:
                word, _, detail = move(self.sent[number].words or (), attempt - 1).partition(":")
                wait = float(detail) if word == "wait" else 0.75 * BACKOFF.first * 2 ** (attempt - 2)
                assert now >= made[attempt - 1] + wait

    # -- the end --------------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        if not hasattr(self, "flow"):
            return
        with self.flow:
            self.finish()
            for _ in range(100):
                held = [parked for parked in self.flow.parked("play") if parked.due == HELD]
                if not held:
                    break
                for parked in held:
                    self.decide(next(case for case in self.flow.cases() if is_of(case, parked.record)), mend=True)
                self.finish()
            self.check_end()

    def finish(self) -> None:
        """Let everything come to its end."""
        self.world.away = False
        for worker, records in list(self.frozen.values()):
            self.frozen.pop(id(worker))
            self.handle(worker, records)
        for _ in range(300):
            alive = list(self.flow.workers)
            if not alive:
                alive = [self.flow.start("play", "z")]
            self.flow.run(2 * TIMEOUT)  # longer than a transaction that its dead owner left open
            self.deaths += sum(bool(worker.ended) for worker in alive)
            if alive == self.flow.workers and all(worker.wake == HELD for worker in alive):
                return
        raise AssertionError("it does not come to an end")

    def check_end(self) -> None:
        broker = self.flow.broker
        committed = broker.committed(names.group("moves", "play"))
        for topic in ("moves.asked", "moves.told"):
            for partition, end in broker.end_offsets(topic).items():
                assert committed.get((topic, partition), 0) == end
        for worker in self.flow.workers:
            self.check_memory(worker)
        outputs = self.flow.outputs(Answered)
        letters: dict[int, list[Record]] = defaultdict(list)
        for letter in self.flow.letters("play"):
            record = original(letter)
            assert record is not None
            letters[self.places[place(record)]].append(letter)
        cases = {case.case_id: case for case in self.flow.cases()}
        assert self.after_dead == "continue" or State.OPEN not in {case.state for case in cases.values()}, "all were held"
        answers = Counter((answer.number, answer.index) for answer in outputs)
        for number, sent in self.sent.items():
            count = check_ending(sent, letters[number], cases, deaths=self.deaths)
            assert [answers.pop((number, index), 0) for index in range(count)] == [1] * count
        assert (dict(answers), cases) == ({}, {})
        if self.order == "key":
            late = {number for number, found in letters.items() if found} if self.after_dead == "continue" else set()
            check_order(outputs, self.sent, late)
        check_receipts(self.flow, self.sent, hold=self.after_dead == "hold")
        broker.compact(TABLE, drop_tombstones=True)
        assert broker.read(TABLE) == []


@pytest.mark.parametrize(
    ("order", "after_dead", "asynchronous"),
    [
        ("key", "continue", False),
        ("key", "continue", True),
        ("key", "hold", False),
        ("key", "hold", True),
        ("none", "continue", True),
        ("none", "hold", False),
    ],
)
def test_every_input_ends_once_in_order_and_in_time(order: Order, after_dead: AfterDead, asynchronous: bool) -> None:
    story = type("Story", (Machine,), {"order": order, "after_dead": after_dead, "asynchronous": asynchronous})
    many = settings(max_examples=settings().max_examples // 4, stateful_step_count=40, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(story, settings=many)
