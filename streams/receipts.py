"""Receipts: what one transaction of a stage did, written in that same transaction.

The one rule: `consumed + parked_out = done + dead - held + parked_in`, and the ranges of one partition join without gap or
overlap, whoever owned it. So a record that no receipt speaks of was not handled, and nothing was handled without a receipt.

Of each consumed record one of these is so: it has outputs (whose `cause` is its id), it is in `silent`, it is on the retry
topic, or it is dead.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from streams import names
from streams.codec import Codec
from streams.record import Output, Record, event
from streams.session import Place
from streams.work import Work


class Span(msgspec.Struct, frozen=True):
    """Offsets `[start, end)` of one partition."""

    topic: str
    partition: int
    start: int
    end: int


@event("streams.receipts", key="stage")
class Receipt(msgspec.Struct, frozen=True):
    """One transaction of one stage; see `schemas/streams/Receipt`. A session's receipts count up by 1 from 0."""

    stage: str
    instance: str
    session: str
    sequence: int
    version: str
    at: datetime
    ranges: tuple[Span, ...]
    consumed: int
    verdicts: dict[str, int]
    outputs: dict[str, int]
    parked_in: int
    parked_out: int
    timers: int
    dead: int
    held: int
    resolved: int
    silent: tuple[Span, ...]


class Receipts:
    """What one instance of a stage writes receipts with. `version` says which code it runs."""

    def __init__(self, topology: str, stage: str, codec: Codec, *, instance: str, version: str) -> None:
        self._stage = stage
        self._instance = instance
        self._version = version
        self._topic = names.receipts(topology)
        self._own = (names.dlq(topology, stage), names.cases(topology))
        self._key = stage.encode()
        self._encode = codec.encoder(Receipt)
        self._session, self._sequence = "", 0

    def write(self, session: str, work: Work, consumed: int, moved: Mapping[Place, tuple[int, int]]) -> Output:
        """The receipt of a transaction that consumed so many records; `moved` are its offsets, from and to.

        It is the same again until `kept` says that the transaction has happened.
        """
        if session != self._session:
            self._session, self._sequence = session, 0
        outputs = {topic: count for topic, count in work.sent.items() if topic not in self._own}
        cycle = work.cycle
        receipt = Receipt(
            self._stage,
            self._instance,
            session,
            self._sequence,
            self._version,
            datetime.fromtimestamp(cycle.now, UTC),
            tuple([Span(*place, *ends) for place, ends in moved.items() if ends[0] < ends[1]]),
            consumed,
            {verdict.value: count for verdict, count in work.verdicts.items()},
            outputs,
            cycle.entered - work.timers,
            cycle.left,
            work.timers,
            work.dead,
            work.held,
            work.resolved,
            spans(work.silent),
        )
        return Output(self._topic, self._key, self._encode(receipt))

    def kept(self) -> None:
        """The transaction with the last receipt has happened."""
        self._sequence += 1


def spans(records: Iterable[Record]) -> tuple[Span, ...]:
    """The places of records, those that follow upon one another as one."""
    offsets: dict[Place, list[int]] = {}
    topic, partition, held = "", -1, list[int]()
    for record in records:
        if record.partition != partition or record.topic != topic:  # a batch brings many of one place in a row
            topic, partition = record.topic, record.partition
            held = offsets.setdefault((topic, partition), [])
        held.append(record.offset)
    return tuple([Span(*place, *ends) for place in sorted(offsets) for ends in _runs(sorted(offsets[place]))])


def _runs(offsets: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Ascending offsets as `[start, end)`."""
    start = end = offsets[0]
    if offsets[-1] - start == len(offsets) - 1:  # what a stage without outputs has in each batch
        yield start, offsets[-1] + 1
        return
    for offset in offsets:
        if offset != end:
            yield start, end
            start = offset
        end = offset + 1
    yield start, end
