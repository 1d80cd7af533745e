"""Publishing what a replay gave: what is missing on the real topics, or everything on topics aside.

The one rule: an id that is on its topic is not published again. The writer fences whoever repaired before, then looks, then
writes: killed at any moment and run again, each output is there once.
"""

import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from streams import names, topics
from streams.config import Settings
from streams.errors import Aborted, SetupError
from streams.ops.scan import Scan
from streams.ops.takeover import take_over
from streams.receipts import Receipt
from streams.record import ID, Output
from streams.topology import Topology
from streams.travel import event_id

_BATCH: Final = 500  # outputs of one transaction
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Output).decode


class Plan:
    """Outputs that are to be published, each id once; in a temporary file."""

    def __init__(self, folder: Path) -> None:
        self._database = sqlite3.connect(folder / "plan.db", isolation_level=None)
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("CREATE TABLE plan (n INTEGER PRIMARY KEY, id TEXT UNIQUE, topic TEXT, output BLOB)")

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def add(self, outputs: Iterable[Output]) -> None:
        """Take in outputs."""
        rows = [(_id(output), output.topic, _encode(output)) for output in outputs]
        self._database.executemany("INSERT OR IGNORE INTO plan (id, topic, output) VALUES (?, ?, ?)", rows)

    def join(self, folder: Path) -> None:
        """Take in what the plan in another folder holds, in its order. That one is closed."""
        self._database.execute("ATTACH ? AS other", (str(folder / "plan.db"),))
        self._database.execute(
            "INSERT OR IGNORE INTO plan (id, topic, output) SELECT id, topic, output FROM other.plan ORDER BY n"
        )
        self._database.execute("DETACH other")

    def remove(self, ids: Sequence[str]) -> None:
        """These are on their topics already."""
        self._database.executemany("DELETE FROM plan WHERE id = ?", [(known,) for known in ids])

    def counts(self) -> dict[str, int]:
        """How many there are for each topic."""
        return dict(self._database.execute("SELECT topic, count(*) FROM plan GROUP BY topic ORDER BY topic").fetchall())

    def chunks(self) -> Iterator[list[Output]]:
        """All of them, in the order in which they came."""
        last = 0
        asked = "SELECT n, output FROM plan WHERE n > ? ORDER BY n LIMIT ?"
        while rows := self._database.execute(asked, (last, _BATCH)).fetchall():
            last = rows[-1][0]
            yield [_decode(output) for _, output in rows]


class Repair:
    """The one writer of a stage's repairs. As a context manager it is closed at the end.

    With a `prefix`, outputs go to the topics `<prefix>.<topic>`, which are made if there are none.
    """

    def __init__(self, settings: Settings, topology: Topology, stage: str, prefix: str = "") -> None:
        """Fences whoever repaired this stage before. Raises `SetupError`."""
        self._settings = settings
        self._topology = topology
        self._stage = stage
        self._prefix = prefix
        self._admin = topics.connect(settings)
        self._writer = take_over(topics.properties(settings), names.repair(topology.name, stage), "repair")

    def __enter__(self) -> "Repair":
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def look(self, plan: Plan, since: int) -> None:
        """Take from the plan what is on its topic by now; `since` (ms since the Unix epoch) is before the first output."""
        wanted = list(plan.counts())
        where = [self._aside(topic) for topic in wanted]
        if self._prefix:
            new = self._make(wanted)
            where = [topic for topic in where if topic not in new]
            since = 0
        if not where:
            return
        with Scan(self._settings, self._admin, where) as scan:
            if since:
                scan.seek(scan.since(dict.fromkeys(scan.next, since)))
            found: list[str] = []
            for record in scan.to_end(decided=True):
                found.append(event_id(record))
                if len(found) == _BATCH:
                    plan.remove(found)
                    found.clear()
            plan.remove(found)

    def publish(self, plan: Plan, *, rate: float | None = None, receipt: Any = None) -> Iterator[int]:
        """Write all that is in the plan, at most `rate` outputs per second; says how many after each transaction.

        `receipt` makes of the outputs of a transaction the receipt that is written with them, or nothing. Raises `Fenced`
        when another repair has taken over, `SetupError` when the cluster refuses.
        """
        start, done = time.monotonic(), 0
        for chunk in plan.chunks():
            for part in _parts(chunk, rate):
                if rate:
                    time.sleep(max(start + done / rate - time.monotonic(), 0.0))
                outputs = [msgspec.structs.replace(output, topic=self._aside(output.topic)) for output in part]
                self._write(outputs + ([receipt(part)] if receipt is not None else []))
                done += len(part)
                yield done

    def _write(self, outputs: Sequence[Output]) -> None:
        try:
            self._writer.write(outputs)
        except Aborted as error:  # another repair may begin now, and publish what is in our plan
            fix = "try again: what was published is found"
            raise SetupError(f"the cluster takes no transaction: {error}", fix=fix) from None

    def _aside(self, topic: str) -> str:
        return f"{self._prefix}.{topic}" if self._prefix else topic

    def _make(self, wanted: Sequence[str]) -> set[str]:
        """Make the topics aside; which of them are new."""
        specs = {spec.name: spec for spec in topics.plan(self._topology)}
        made = [msgspec.structs.replace(specs[topic], name=names.check_topic(self._aside(topic), "--into")) for topic in wanted]
        return {change.topic for change in topics.apply(made, self._admin) if change.action == "create"}


class Receipts:
    """Receipts of a repair: no ranges, only outputs. `version` says which code it ran."""

    def __init__(self, topology: Topology, stage: str, encode: Any, version: str) -> None:
        self._topic = names.receipts(topology.name)
        self._stage = stage
        self._encode = encode
        self._version = version
        self._session = f"replay/{time.time_ns():x}"
        self._sequence = 0

    def __call__(self, outputs: Sequence[Output]) -> Output:
        """That of one transaction."""
        counts: dict[str, int] = {}
        for output in outputs:
            counts[output.topic] = counts.get(output.topic, 0) + 1
        receipt = Receipt(
            stage=self._stage,
            instance="replay",
            session=self._session,
            sequence=self._sequence,
            version=self._version,
            at=datetime.now(UTC),
            ranges=(),
            consumed=0,
            verdicts={},
            outputs=counts,
            parked_in=0,
            parked_out=0,
            timers=0,
            dead=0,
            held=0,
            resolved=0,
            silent=(),
        )
        self._sequence += 1
        return Output(self._topic, self._stage.encode(), self._encode(receipt))


def _parts(outputs: Sequence[Output], rate: float | None) -> Iterator[Sequence[Output]]:
    """A transaction's worth: a tenth of a second's, if there is a rate."""
    size = max(int((rate or _BATCH * 10) / 10), 1)
    for start in range(0, len(outputs), size):
        yield outputs[start : start + size]


def _id(output: Output) -> str:
    headers: Mapping[str, bytes | None] = dict(reversed(output.headers))  # the first of a name counts
    return (headers.get(ID) or b"").decode()
