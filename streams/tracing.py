"""Spans of a stage at work: what it processes and sends, its database batches and its transactions.

The one rule: nothing of a transaction is exported before it has happened, and a record that nobody wants to see costs next to
nothing: its header is read, and passed on as it is.

A record goes on in the trace that its `traceparent` names; one without begins a trace, whose id follows from its own. What was
put off (a retry, a redrive, what a stage sent itself for later) begins a trace of its own with a link to the one before, so
that no trace grows without end; who failed once is followed from there on. An attempt that fails has a span in any case.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from random import getrandbits
from typing import Final

from streams import names, semconv
from streams.export import Exporter, configured, source
from streams.otlp import Source
from streams.process import Outcome, Ready, Verdict
from streams.record import Header, Record, event_info
from streams.stage import Stage
from streams.trace import (
    CLIENT,
    CONSUMER,
    INTERNAL,
    PRODUCER,
    SAMPLED,
    TRACEPARENT,
    TRACESTATE,
    Place,
    Sampler,
    Shape,
    Span,
    Step,
    Value,
    begun_by,
    incoming,
    root,
    state,
    write,
)
from streams.travel import Travel

_LINKS: Final = 128  # of one span at most, as OpenTelemetry has it
_KEY: Final = 200  # characters of a record's key


class Tracing:
    """A process's traces: the exporter and what is kept."""

    def __init__(self, exporter: Exporter, sampler: Sampler, mask: Callable[[str], str] = str) -> None:
        """`mask` takes secrets out of what errors say."""
        self.exporter = exporter
        self.sampler = sampler
        self.mask = mask

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, mask: Callable[[str], str] = str) -> "Tracing | None":
        """What OTEL_* ask for (see `export.configured`); None if they ask for nothing. Raises `SetupError`."""
        config = configured(os.environ if environ is None else environ)
        return cls(Exporter(config), config.sampler, mask) if config is not None else None

    def stage(self, topology: str, stage: Stage, instance: str, version: str, database: str = "") -> "StageTraces":
        """Those of one stage. `database` is the URL of its store."""
        group = names.group(topology, stage.name)
        known = {
            semconv.SERVICE_NAME: group,
            semconv.SERVICE_NAMESPACE: topology,
            semconv.SERVICE_INSTANCE_ID: instance,
            semconv.SERVICE_VERSION: version,
        }
        return StageTraces(self, source(known, version), stage, group, database)


class StageTraces:
    """The spans of one stage's transaction at work; they are the exporter's once it has happened."""

    def __init__(self, tracing: Tracing, source: Source, stage: Stage, group: str, database: str = "") -> None:
        self.sampler = tracing.sampler
        self.clock = time.time_ns
        self.database: tuple[int, int, str | None] | None = None
        self._tracing = tracing
        self._source = source
        self._stage = stage.name
        self._group = group
        self._timers = frozenset(event_info(cls).topic for cls in stage.timers)
        self._spans: list[Span] = []
        self._links: dict[Place, None] = {}
        self.count = 0
        self._transaction = trace_id()
        self._process = {topic: _processing(topic, group) for topic in (*stage.topics, *self._timers)}
        self._send: dict[str, Shape] = {}
        self._whole = Shape(f"transaction {group}", INTERNAL, ((semconv.MESSAGING_CONSUMER_GROUP_NAME, group),))
        self._commit = _operation("commit", semconv.SETTLE, CLIENT, f"commit {group}", _group(group))
        system = database.partition(":")[0].partition("+")[0]  # as SQLAlchemy names it, and the conventions do
        known = ((semconv.DB_SYSTEM_NAME, system), (semconv.DB_OPERATION_NAME, "batch"))
        self._batch = Shape(f"batch {stage.store.name if stage.store else ''}", CLIENT, known)

    # -- records --------------------------------------------------------------------------------------------------------

    def begin(self, ready: Sequence[Ready]) -> None:
        """Find out where first attempts stand, and have their outputs say so."""
        self.count += len(ready)
        keeps = self.sampler.keeps
        for record, travel, _ in ready:
            said = [header for header in travel.through if header[0] == TRACEPARENT]
            if record.topic in self._timers:
                self.again(record, travel, 1)
            elif said and (place := incoming(said)) is not None:
                if keeps(place.trace_id, place):
                    travel.step = travel.trace = step = Step(place.trace_id, span_id(), place, SAMPLED | place.flags)
                    step.state = state(record.headers)
                    _without_header(travel)
                else:  # passed on as it is
                    travel.trace = place
            else:
                known = begun_by(travel.cause)
                if said:
                    _without_header(travel, new=True)
                if keeps(known):
                    travel.step = travel.trace = Step(known, known[16:], None, SAMPLED)
                else:  # it says so, lest the next stage begin another
                    raw = known.encode()
                    travel.through.insert(0, (TRACEPARENT, b"00-%b-%b-00" % (raw, raw[16:])))
                    travel.trace = root(known)

    def again(self, record: Record, travel: Travel, attempt: int) -> None:
        """What was put off begins a trace of its own, with a link to the one before."""
        old = incoming(record.headers) or root(begun_by(travel.cause))
        known = begun_by(f"{travel.cause}/{self._stage}/{attempt}/{travel.case.hex()}")
        if self.sampler.keeps(known, old) if record.topic in self._timers else self.sampler.errors or old.sampled:
            travel.step = travel.trace = Step(known, span_id(), None, SAMPLED, (old,))
            _without_header(travel, new=True)
        else:
            travel.step, travel.trace = None, old

    def end(self, record: Record, travel: Travel, attempt: int, began: int, outcome: Outcome) -> None:
        """Keep what became of an attempt that somebody wants to see, or that failed."""
        step = travel.step
        if step is None:
            if not self.sampler.errors:
                return
            place = incoming(record.headers)
            old = place or root(begun_by(travel.cause))
            step = Step(old.trace_id, span_id(), place, old.flags)
        now = self.clock()
        spans = self._spans
        key = record.key.decode("utf-8", "replace")[:_KEY] if record.key is not None else ""
        attributes: tuple[tuple[str, Value], ...] = (
            (semconv.MESSAGING_DESTINATION_PARTITION_ID, str(record.partition)),
            (semconv.MESSAGING_KAFKA_OFFSET, record.offset),
            (semconv.MESSAGING_MESSAGE_ID, travel.cause),
            (semconv.MESSAGING_KAFKA_MESSAGE_KEY, key),
            (semconv.TRANSACTION, self._transaction),
        )
        error = None
        if outcome.verdict is not Verdict.DONE or attempt > 1:
            attributes += ((semconv.ATTEMPT, attempt), (semconv.VERDICT, outcome.verdict.value))
        if outcome.failure is not None:
            error = self._tracing.mask(f"{outcome.failure.kind}: {outcome.failure.message}")
            attributes += ((semconv.ERROR_TYPE, outcome.failure.kind),)
        shape = self._process.get(record.topic) or _processing(record.topic, self._group)
        mine = Span(shape, step.trace_id, step.span_id, step.parent, began, now, attributes, step.links, error, step.state)
        spans.append(mine)
        spans += step.spans
        if len(self._links) < _LINKS:
            self._links[Place(step.trace_id, step.span_id, SAMPLED)] = None
        for output in outcome.outputs:
            known = (output.headers[0][1] or b"").decode()
            sent = ((semconv.MESSAGING_MESSAGE_ID, known), (semconv.MESSAGING_KAFKA_MESSAGE_KEY, key))
            spans.append(Span(self._sending(output.topic), step.trace_id, known[:16], step.span_id, now, 0, sent))

    def _sending(self, topic: str) -> Shape:
        shape = self._send.get(topic)
        if shape is None:
            shape = self._send[topic] = sending(topic)
        return shape

    # -- transactions ---------------------------------------------------------------------------------------------------

    def forget(self) -> None:
        """What was done has been undone: it is done again, or by somebody else."""
        self._spans, self._links, self.count, self._transaction = [], {}, 0, trace_id()

    def settled(self, began: int, error: str | None) -> None:
        """A transaction has come to its end. With an `error` nothing of it has happened, and only itself is told of."""
        if not self._spans and (self.database is None or self.database[2] is None):
            self.count, self.database = 0, None
            return
        now = self.clock()
        for span in self._spans:
            span.end = span.end or now  # what was sent has arrived by now
        spans = self._spans if error is None else []
        first = min([began, *(span.start for span in self._spans)])
        if self.database is not None:
            first = min(first, self.database[0])
        whole = span_id()
        count: tuple[tuple[str, Value], ...] = ((semconv.MESSAGING_BATCH_MESSAGE_COUNT, self.count),)
        failed: tuple[tuple[str, Value], ...] = ((semconv.ERROR_TYPE, "Aborted"),) if error is not None else ()
        links = tuple(self._links)
        spans.append(Span(self._whole, self._transaction, whole, "", first, now, count, (), error))
        spans.append(Span(self._commit, self._transaction, span_id(), whole, began, now, count + failed, links, error))
        if self.database is not None:
            start, end, problem = self.database
            size = ((semconv.DB_OPERATION_BATCH_SIZE, self.count),)
            spans.append(Span(self._batch, self._transaction, span_id(), whole, start, end, size, (), problem))
        self.database = None
        self._tracing.exporter.put(self._source, spans)
        self.forget()


class Beginnings:
    """Traces that begin with a record sent to `topic` from outside the flow, each with one span, by the name of `service`."""

    def __init__(self, tracing: Tracing, topic: str, service: str, version: str) -> None:
        self._tracing = tracing
        self._source = source({semconv.SERVICE_NAME: service, semconv.SERVICE_VERSION: version}, version)
        self._shape = sending(topic)

    def begin(self, key: str) -> tuple[Header, Span | None]:
        """The header of the next record, and its span if its trace is kept; hand that to `sent` when it has arrived."""
        known = trace_id()
        if not self._tracing.sampler.keeps(known):
            return (TRACEPARENT, write(root(known))), None
        place = root(known, SAMPLED)
        attributes = ((semconv.MESSAGING_KAFKA_MESSAGE_KEY, key[:_KEY]),)
        span = Span(self._shape, known, place.span_id, "", time.time_ns(), 0, attributes)
        return (TRACEPARENT, write(place)), span

    def sent(self, span: Span, error: str | None = None) -> None:
        """It has arrived, or never will."""
        span.end, span.error = time.time_ns(), error
        self._tracing.exporter.put(self._source, [span])

    def close(self) -> None:
        """Export what there is."""
        self._tracing.exporter.close()


def _without_header(travel: Travel, *, new: bool = False) -> None:
    """Outputs get a header of their own; what others have said of an old trace is of no use in a new one."""
    ours = (TRACEPARENT, TRACESTATE) if new else (TRACEPARENT,)
    travel.through = [header for header in travel.through if header[0] not in ours]


def sending(topic: str) -> Shape:
    """Records sent to a topic."""
    destination = ((semconv.MESSAGING_DESTINATION_NAME, topic),)
    return _operation(semconv.SEND, semconv.SEND, PRODUCER, f"{semconv.SEND} {topic}", destination)


def _processing(topic: str, group: str) -> Shape:
    where = ((semconv.MESSAGING_DESTINATION_NAME, topic), *_group(group))
    return _operation(semconv.PROCESS, semconv.PROCESS, CONSUMER, f"{semconv.PROCESS} {topic}", where)


def _operation(name: str, what: str, kind: int, title: str, more: tuple[tuple[str, Value], ...]) -> Shape:
    known = ((semconv.MESSAGING_SYSTEM, semconv.KAFKA), (semconv.MESSAGING_OPERATION_NAME, name))
    return Shape(title, kind, (*known, (semconv.MESSAGING_OPERATION_TYPE, what), *more))


def _group(group: str) -> tuple[tuple[str, Value], ...]:
    return ((semconv.MESSAGING_CONSUMER_GROUP_NAME, group),)


def span_id() -> str:
    """A new one."""
    return f"{getrandbits(64) or 1:016x}"


def trace_id() -> str:
    """A new one, of a trace that no event begins."""
    return f"{getrandbits(128) or 1:032x}"
