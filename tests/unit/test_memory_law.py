"""Whatever happens to its sessions, a copying stage on the memory's broker loses, doubles and reorders nothing.

The one rule: the faults are Hypothesis' choice, and the proof reads only what a committed reader sees.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.errors import Aborted, Fenced
from streams.memory.session import Crashed, ManualClock, MemoryBroker, MemorySession
from streams.record import Output, Record
from streams.session import Inputs

PARTITIONS = 3
RECORDS = 30
INSTANCES = ("a", "b", "c")

_instance = st.sampled_from(INSTANCES)
_step = st.one_of(
    st.tuples(st.just("poll"), _instance),
    st.tuples(st.just("poll"), _instance),
    st.tuples(st.just("commit"), _instance),
    st.tuples(st.just("commit"), _instance),
    st.tuples(st.sampled_from(["drop", "close", "abort", "lose", "lose before", "crash", "crash after"]), _instance),
    st.tuples(st.just("wait"), st.sampled_from(["1", "8", "31"])),
)


class Copier:
    """A stage that copies `in` to `out`, of which each instance is at some point of its cycle."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.broker = MemoryBroker(self.clock, session_timeout=30.0, transaction_timeout=10.0)
        for topic in ("in", "out"):
            self.broker.create_topic(topic, PARTITIONS)
        for number in range(RECORDS):
            self.broker.produce("in", b"k", b"%d" % number, partition=number % PARTITIONS)
        self.sessions: dict[str, MemorySession] = {}
        self.hands: dict[str, list[Record]] = {}

    def step(self, action: str, who: str) -> None:
        match action:
            case "poll":
                self.poll(who)
            case "commit":
                self.commit(who)
            case "drop":
                self.sessions.pop(who, None)
            case "close":
                if who in self.sessions:
                    self.sessions.pop(who).close()
            case "wait":
                self.clock.advance(float(who))
            case "abort":
                self.broker.abort_next(who)
            case "lose" | "lose before":
                self.broker.lose_reply_next(who, happened=action == "lose")
            case "crash" | "crash after":
                self.broker.crash_next(who, committed=action == "crash after")

    def poll(self, who: str) -> None:
        if who not in self.sessions:
            self.sessions[who] = MemorySession(self.broker, Inputs("in"), group="g", transactional_id=who)
            self.hands[who] = []
        polled = self.sessions[who].poll(4, 0)
        self.hands[who] = [r for r in self.hands[who] if r.partition not in polled.lost] + polled.records

    def commit(self, who: str) -> None:
        if who not in self.sessions or not self.hands[who]:
            return
        outputs = [Output("out", r.key, r.value, partition=r.partition) for r in self.hands[who]]
        offsets = {("in", r.partition): r.offset + 1 for r in self.hands[who]}
        self.hands[who] = []
        try:
            self.sessions[who].commit(outputs, offsets)
        except Aborted:
            pass
        except (Fenced, Crashed):
            del self.sessions[who]

    def finish(self) -> None:
        """Let the last instance run alone until it has done the rest: it takes what the faults and timeouts leave it."""
        for _ in range(100):
            self.clock.advance(8.0)
            self.poll("a")
            self.commit("a")


@given(st.lists(_step, max_size=60))
@settings(max_examples=300, deadline=None)
def test_every_record_is_copied_once_and_in_order(steps: list[tuple[str, str]]) -> None:
    copier = Copier()
    for action, who in steps:
        copier.step(action, who)
    copier.finish()
    assert [int(r.value or b"") for r in copier.broker.read("out")] == [
        number for partition in range(PARTITIONS) for number in range(partition, RECORDS, PARTITIONS)
    ]
    assert copier.broker.committed("g") == {("in", partition): RECORDS // PARTITIONS for partition in range(PARTITIONS)}
