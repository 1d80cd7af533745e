"""Laws of the lanes, against a model that is a list for each key: order, due times, and a table that says the same."""

import copy
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.lanes import HELD, Cycle, Lanes
from streams.parked import BY, Parked, place
from streams.record import Output, Record

TABLE = "t.retry"
KEYS = st.sampled_from([b"a", b"b", b"c"])
WAITS = st.none() | st.sampled_from([0.0, 0.0004, 1.0007, 5.0, HELD])
ACTIONS = st.lists(st.tuples(st.sampled_from(["new", "new", "go", "go"]), KEYS, WAITS), max_size=6)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), ACTIONS),
        st.tuples(st.just("abort"), ACTIONS),
        st.tuples(st.just("pass"), st.sampled_from([0.001, 1.0, 7.0])),
        st.tuples(st.just("operator"), KEYS),
        st.tuples(st.just("dismiss"), KEYS),
        st.tuples(st.just("restart"), st.none()),
    ),
    max_size=12,
)


class Story:
    """The lanes, the table that they are written to, and a list for each key: (offset of the record, its due time)."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.1234
        self.lanes = Lanes(TABLE, "me")
        self.lanes.gained(0)
        self.log: list[Record] = []
        self.model: dict[bytes, list[tuple[int, float]]] = {b"a": [], b"b": [], b"c": []}
        self.redriven: set[int] = set()
        self.read = 0

    def record(self, key: bytes) -> Record:
        self.read += 1
        return Record("in", 0, self.read, key, b"v%d" % self.read, (), self.read)

    def write(self, outputs: list[Output]) -> list[Record]:
        found = [Record(TABLE, 0, len(self.log) + i, o.key, o.value, o.headers) for i, o in enumerate(outputs)]
        self.log += found
        return found

    def cycle(self, actions: list[tuple[str, bytes, float | None]], *, happens: bool) -> None:
        cycle, model = self.lanes.cycle(self.now), copy.deepcopy(self.model)
        for what, key, wait in actions:
            (self.new if what == "new" else self.go)(cycle, model[key], key, wait)
        if happens:
            cycle.apply()
            self.model = model
            for record in self.write(cycle.writes):
                self.lanes.load(record)  # its own writes come back to it, and change nothing

    def new(self, cycle: Cycle, lane: list[tuple[int, float]], key: bytes, wait: float | None) -> None:
        record = self.record(key)
        assert cycle.blocks(record) == bool(lane)
        if lane:
            cycle.park(Parked(record, 0))
            lane.append((record.offset, 0.0))
        elif wait is not None:
            cycle.park(Parked(record, 0, 1, self.now + wait))
            lane.append((record.offset, self.now + wait))

    def go(self, cycle: Cycle, lane: list[tuple[int, float]], key: bytes, wait: float | None) -> None:
        head = cycle.head((0, key))
        if head is None:
            assert not lane or lane[0][1] + 0.001 > self.now
            return
        assert head.record.offset == lane[0][0]
        assert lane[0][1] <= self.now
        if wait is None:
            cycle.complete((0, key))
            lane.pop(0)
        else:
            cycle.again((0, key), msgspec.structs.replace(head, attempt=head.attempt + 1, due=self.now + wait))
            lane[0] = lane[0][0], self.now + wait

    def operator(self, key: bytes) -> None:
        """A redriven record, older than all that waits: due now, behind others that were redriven."""
        record = self.record(key)
        lane = self.model[key]
        ahead = sum(1 for offset, _ in lane if offset in self.redriven)
        lane.insert(ahead, (record.offset, 0.0))
        self.redriven.add(record.offset)
        for each in self.write([Parked(record, -1, case=b"c").output(TABLE, "op")]):
            self.lanes.load(each)

    def dismiss(self, key: bytes) -> None:
        """An operator's tombstone for the last that waits."""
        if self.model[key]:
            offset, _ = self.model[key].pop()
            gone = place(Record("in", 0, offset, key, b""))
            for each in self.write([Output(TABLE, gone, None, ((BY, b"op"),), 0)]):
                self.lanes.load(each)

    def restored(self) -> Lanes:
        """What the next owner makes of the table."""
        fresh = Lanes(TABLE, "me")
        for record in self.log:
            fresh.load(record)
        fresh.gained(0)
        return fresh

    def check(self) -> None:
        fresh = self.restored()
        assert contents(fresh) == contents(self.lanes), "a fresh owner would know the same"
        assert fresh.parked() == self.lanes.parked()
        assert fresh.next_due() == self.lanes.next_due()
        waiting = {key: [offset for offset, _ in lane] for key, lane in self.model.items() if lane}
        assert {key: [each.record.offset for each in lane] for key, lane in contents(self.lanes).items()} == waiting
        heads = {key: lane[0].due for key, lane in contents(self.lanes).items()}
        for key, head in heads.items():
            assert 0 <= head - self.model[key][0][1] < 0.0011 or head == self.model[key][0][1]
        assert self.lanes.next_due() == min(heads.values(), default=HELD)
        due = self.lanes.cycle(self.now).due(100)
        assert [heads[key] for _, key in due if isinstance(key, bytes)] == sorted(d for d in heads.values() if d <= self.now)
        assert len(due) == len(set(due))
        assert self.lanes.cycle(self.now).due(1) == due[:1]


def contents(lanes: Lanes) -> dict[Any, list[Parked]]:
    return {key: list(lane) for key, lane in lanes._partitions[0].lanes.items()}


@settings(max_examples=5 * settings().max_examples)
@given(STEPS)
def test_lanes_keep_order_and_time_and_the_table_says_the_same(steps: list[tuple[str, Any]]) -> None:
    story = Story()
    for what, value in steps:
        if what in ("commit", "abort"):
            story.cycle(value, happens=what == "commit")
        elif what == "pass":
            story.now += value
        elif what == "restart":
            story.lanes = story.restored()
        elif what == "operator":
            story.operator(value)
        else:
            story.dismiss(value)
        story.check()


def test_many_followers_leave_one_entry_for_their_head() -> None:
    story = Story()
    story.cycle([("new", b"a", 60.0)], happens=True)
    for _ in range(50):
        story.cycle([("new", b"a", None)], happens=True)
    assert len(story.lanes._partitions[0].heads) == 1
