"""A replay on what is recorded: each event by itself, in any order, with the outcomes that its dependencies gave then.

The one rule: the same handlers by the same machine as in a worker, `streams.process`; only what surrounds them is not real.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from streams.ops.replay.evidence import Emitted, Evidence
from streams.ops.replay.judge import Trial
from streams.ops.replay.sandbox import Sandbox, moment, own, then
from streams.process import Outcome
from streams.record import Record, event_info
from streams.snapshot import Snapshot
from streams.stage import Stage
from streams.topology import Topology

_CHUNK = 500


class Recorded:
    """One stage. `inbox` is its database as it was at one moment, None for a stage without one.

    `waits` says of a record whether it waits somewhere (`parked`, `dead`) or, empty, was handled to its end.
    """

    def __init__(
        self,
        topology: Topology,
        stage: Stage,
        sandbox: Sandbox,
        evidence: Evidence,
        *,
        inbox: Snapshot | None,
        waits: Callable[[Record], str] = lambda _: "",
    ) -> None:
        self._stage = stage
        self._joint = frozenset(event_info(cls).topic for cls in topology.joint)
        self._sandbox = sandbox
        self._evidence = evidence
        self._inbox = inbox
        self._waits = waits

    def run(self, records: Iterable[Record]) -> Iterator[Trial]:
        """What comes of each record. All of them were read by the stage, and committed."""
        records = iter(records)
        with asyncio.Runner() as runner:
            runner.run(self._sandbox.__aenter__())
            try:
                while chunk := list(islice(records, _CHUNK)):
                    yield from runner.run(self._chunk(chunk))
            finally:
                runner.run(self._sandbox.__aexit__())

    async def _chunk(self, records: Sequence[Record]) -> list[Trial]:
        ready = self._sandbox.processor.read(records)
        ids = [travel.cause for _, travel, _ in ready]
        emitted = self._evidence.of(ids)
        known = self._inbox.look_up(ids) if self._inbox is not None else {}
        trials = []
        sandbox, stage = self._sandbox, self._stage
        for record, cause, each in zip(records, ids, ready, strict=True):
            remembered = known.get(cause)
            found: Sequence[Emitted] = emitted.get(cause, ())
            if found:
                found = own(cause, stage, found, remembered, self._joint)
            waits = self._waits(record) if not found else ""
            # An inbox knows what was handled: of what it does not know the store has no effects, and nothing may be claimed.
            past = then(found, remembered, handled=not waits and self._inbox is None)
            outcome = sandbox.start(each, past, moment(record, found, remembered))
            if not isinstance(outcome, Outcome):
                outcome = await outcome
            trials.append(Trial(cause, record, outcome, found, remembered, waits, sandbox.undecided(outcome)))
        return trials
