"""The flaky flow on a broker: its topics, its workers, what is sent and what has come out.

The one rule: each copy has a name of its own, so that no test sees another's records.
"""

import uuid
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from tests.support.contracts import Contracts
from tests.support.flaky import ATTEMPTS, PARTITIONS, fate, write_schemas
from tests.support.pump import sender
from tests.support.workers import Crew, Worker, towpath

MODULE = "tests.support.flaky"
STAGES = ("split", "join")
Item = tuple[str, int]


class Flow(Crew):
    """One copy of the flaky flow with its workers."""

    def __init__(self, directory: Path, bootstrap: str, kafka: str = "", *, topics: bool = True) -> None:
        self.name = f"flaky-{uuid.uuid4().hex[:8]}"
        directory = directory / self.name
        home = directory / "schemas"
        write_schemas(home, self.name)
        super().__init__(
            directory,
            {
                "TOWPATH_BOOTSTRAP": bootstrap,
                "TOWPATH_FLAKY": self.name,
                "TOWPATH_FLAKY_HOME": str(home),
                "TOWPATH_DIR": str(directory),
                "TOWPATH_KAFKA": kafka,
            },
        )
        self.contracts = Contracts(home)
        self.producer: Producer = sender(bootstrap)
        self.sent: list[Item] = []
        if topics:
            towpath(self.environment, "topics", "apply", MODULE)

    def worker(self, instance: str, *stages: str) -> Worker:
        """Start one worker of some stages; of all without any."""
        return self.start(MODULE, *stages, instance=instance)

    def topic(self, name: str) -> str:
        return f"{self.name}.{name}"

    @property
    def dlqs(self) -> tuple[str, ...]:
        return tuple(self.topic(f"{stage}.dlq") for stage in STAGES)

    @property
    def retries(self) -> tuple[str, ...]:
        return tuple(self.topic(f"{stage}.retry") for stage in STAGES)

    @property
    def events(self) -> tuple[str, ...]:
        return tuple(self.topic(name) for name in ("even", "odd", "answered"))

    @property
    def ends(self) -> tuple[str, ...]:
        """Where records come to their end."""
        return (self.topic("answered"), *self.dlqs)

    def send(self, key: str, seq: int) -> None:
        """Submit number `seq` of a key."""
        self.sent.append((key, seq))
        self.raw(key.encode(), self.contracts.encode("Asked", {"key": key, "seq": seq}))

    def raw(self, key: bytes | None, value: bytes | None, headers: Any = (), partition: int = -1) -> None:
        """Submit any bytes."""
        self.producer.produce(self.topic("asked"), value, key, partition, headers=list(headers))
        self.producer.poll(0)

    def items(self, records: list[Any]) -> list[Item]:
        """What records say, each as key and seq."""
        decoded = [self.contracts.decode(record.value) for record in records]
        return [(value["key"], value["seq"]) for value in decoded]

    def owners(self, *, but: Worker | None = None) -> bool:
        """Whether every partition of every stage is owned by a worker other than `but`."""
        owned: dict[str, set[int]] = defaultdict(set)
        for worker in self.workers:
            if worker is not but:
                for stage, partitions in worker.owned().items():
                    owned[stage] |= partitions
        return all(owned[stage] == set(range(PARTITIONS)) for stage in STAGES)

    def check(self, records: dict[str, list[Any]]) -> None:
        """Whatever was sent has ended once, where and in the order that its fate says, and nothing is parked."""
        left = Counter(self.sent)
        for stage, dlq in zip(STAGES, self.dlqs, strict=True):
            doomed = [item for item in left if fate(stage, *item) in {"rejected", "poison"}]
            assert differ(self.items(records[dlq]), doomed) == {}, f"dead of {stage}"
            left.subtract(doomed)
            left += Counter()
            attempts = {
                item: dead_attempts(letter) for item, letter in zip(self.items(records[dlq]), records[dlq], strict=True)
            }
            assert {i: n for i, n in attempts.items() if n != (ATTEMPTS if fate(stage, *i) == "poison" else 1)} == {}
        answered = records[self.topic("answered")]
        assert differ(self.items(answered), list(left)) == {}, "answered"
        assert len({header(record, "id") for record in answered}) == len(answered)
        for topic in self.events:
            assert disordered(self.items(records[topic])) == [], f"order of {topic}"
        for topic in self.retries:
            last = {record.key: record for record in records[topic]}
            assert [record.key for record in last.values() if record.value is not None] == [], f"parked in {topic}"
            assert last, f"nothing was ever parked in {topic}: this run shows nothing"


def header(record: Any, name: str) -> bytes | None:
    """The last header of that name."""
    return next((value for other, value in reversed(record.headers) if other == name), None)


def dead_attempts(letter: Any) -> int:
    """How many attempts a dead letter says there were."""
    return int(header(letter, "dead-attempts") or 0)


def differ(found: list[Item], wanted: list[Item]) -> dict[Item, int]:
    """What is missing (below 0) or doubled (above 0)."""
    counts = Counter(found)
    counts.subtract(wanted)
    return {item: count for item, count in counts.items() if count}


def disordered(items: list[Item]) -> list[Item]:
    """Those that come after a later one of their key."""
    newest: dict[str, int] = {}
    found = []
    for key, seq in items:
        if seq <= newest.get(key, -1):
            found.append((key, seq))
        newest[key] = max(seq, newest.get(key, -1))
    return found
