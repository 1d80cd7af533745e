"""A topology: the graph of one application's stages and events, as data.

The one rule: a topology that exists is sound. What is wrong is said where it is declared, before anything connects.
"""

import importlib
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from streams import names
from streams.books import Books
from streams.errors import SetupError
from streams.record import event_info
from streams.stage import Handler, Stage, declared_at, short_path


class Topology:
    """An application: what comes in from outside, the stages that handle it, and what nobody here consumes.

    `sources` are events that others publish, `sinks` events that others read. An event that several stages emit is named
    in `joint`, so that a second author is never an accident. Every event topic has `partitions` partitions, since a key
    must be in the same one everywhere. `schemas` is the folder of contracts. `moves` says in words what an event moved
    outside Kafka, money or stock; "" if nothing. `books` are what `towpath reconcile` compares beside the topics.

    Raises `SetupError`, naming file and line, for a graph that does not add up.
    """

    def __init__(  # noqa: PLR0913  # a declaration: all but the name are given by name
        self,
        name: str,
        *,
        sources: Sequence[type],
        stages: Sequence[Stage],
        sinks: Sequence[type] = (),
        joint: Sequence[type] = (),
        partitions: int = 4,
        schemas: Path,
        books: Books | None = None,
        moves: Callable[[Any], str] = lambda _: "",
    ) -> None:
        self.where = declared_at()
        self.name = names.check_word(name, "topology", self.where)
        self.sources = tuple(sources)
        self.stages = tuple(stages)
        self.sinks = tuple(sinks)
        self.joint = tuple(joint)
        self.partitions = partitions
        self.schemas, self.books, self.moves = schemas, books, moves
        self.events: tuple[type, ...] = tuple(
            dict.fromkeys((*self.sources, *(cls for stage in self.stages for cls in (*stage.consumes, *stage.emits))))
        )
        _check_timers(self)
        _check_stages(self)
        _check_declared(self)
        _check_topics(self)
        timers = [cls for stage in self.stages for cls in stage.timers]
        self.by_topic: dict[str, type] = {event_info(cls).topic: cls for cls in (*self.events, *timers)}
        for cls in self.events:
            _check_emitted(self, cls)
            _check_consumed(self, cls)

    def __repr__(self) -> str:
        return f"Topology({self.name!r})"

    def stage(self, name: str) -> Stage:
        """The stage of that name, or a `SetupError` that lists those there are."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        known = ", ".join(stage.name for stage in self.stages)
        raise SetupError(f"topology {self.name!r} has no stage {name!r}", where=self.where, fix=f"use one of: {known}")

    def consumers(self, event: type) -> tuple[Stage, ...]:
        """The stages that consume an event."""
        return tuple(stage for stage in self.stages if event in stage.consumes)

    def producers(self, event: type) -> tuple[Stage, ...]:
        """The stages that may emit an event."""
        return tuple(stage for stage in self.stages if event in stage.emits)


def _check_stages(topology: Topology) -> None:
    """Each stage by itself."""
    what, where = f"topology {topology.name!r}", topology.where
    if not topology.stages:
        raise SetupError(f"{what} has no stage", where=where, fix="give it at least one")
    if topology.partitions < 1:
        raise SetupError(f"{what} has partitions={topology.partitions}", where=where, fix="use at least 1")
    for name, count in Counter(stage.name for stage in topology.stages).items():
        if count > 1:
            second = [stage for stage in topology.stages if stage.name == name][1]
            raise SetupError(f"{what} has {count} stages named {name!r}", where=second.where, fix="give each its own name")
    for stage in topology.stages:
        if not stage.handlers:
            raise SetupError(
                f"stage {stage.name!r} has no handler",
                where=stage.where,
                fix=f"decorate a function with @{stage.name.replace('-', '_')}.on above the topology",
            )
        if not stage.consumes:
            raise SetupError(f"stage {stage.name!r} reads no topic", where=stage.where, fix="let a handler consume an event")
        for cls in stage.consumes:
            if cls in stage.emits:
                raise SetupError(
                    f"stage {stage.name!r} consumes {cls.__name__}, which it emits itself: it would never end",
                    where=_consuming(stage, cls).where,
                    fix="emit another event",
                )


def _check_timers(topology: Topology) -> None:
    """What a stage sends itself for later is handled there, and is on no topic."""
    for stage in topology.stages:
        for cls in stage.timers:
            if not any(cls in handler.consumes for handler in stage.handlers):
                raise SetupError(
                    f"stage {stage.name!r} sends itself {cls.__name__} for later, but does not handle it",
                    where=next(handler.where for handler in stage.handlers if cls in handler.timers),
                    fix=f"add a handler of {cls.__name__} to the stage",
                )
            if any(cls in (*other.consumes, *other.emits) for other in topology.stages) or cls in topology.sources:
                raise SetupError(
                    f"event {cls.__name__} is for later at stage {stage.name!r}, and is also on a topic",
                    where=_consuming(stage, cls).where,
                    fix="use an event of its own for what a stage sends itself",
                )


def _check_declared(topology: Topology) -> None:
    """Sources, sinks and joint events are events, and a stage emits what is said to be emitted."""
    for argument, declared in (("sources", topology.sources), ("sinks", topology.sinks), ("joint", topology.joint)):
        for cls in declared:
            try:
                event_info(cls)
            except SetupError as error:
                raise SetupError(f"{argument}: {error.what}", where=topology.where, fix=error.fix) from None
            if argument != "sources" and not topology.producers(cls):
                raise SetupError(
                    f"event {cls.__name__} is in {argument}, but no stage emits it",
                    where=topology.where,
                    fix=f"take it from {argument}",
                )


def _check_topics(topology: Topology) -> None:
    """One topic, one event class, one class name; and none of the names that the runtime derives for itself."""
    derived = {names.cases(topology.name): "its cases", names.receipts(topology.name): "its receipts"}
    for stage in topology.stages:
        derived[names.retry(topology.name, stage.name)] = f"the parking table of {stage.name}"
        derived[names.dlq(topology.name, stage.name)] = f"the dead letters of {stage.name}"
    by_topic: dict[str, type] = {}
    by_name: dict[str, type] = {}
    for cls in topology.events:
        where, topic = _named(topology, cls), event_info(cls).topic
        names.check_topic(topic, where)
        if topic in derived:
            raise SetupError(
                f"event {cls.__name__} has topic {topic!r}, which topology {topology.name!r} uses for {derived[topic]}",
                where=where,
                fix="give the event another topic",
            )
        other = by_topic.setdefault(topic, cls)
        if other is not cls:
            raise SetupError(
                f"events {other.__name__} and {cls.__name__} have one topic, {topic!r}",
                where=where,
                fix="give each its own topic",
            )
        other = by_name.setdefault(cls.__name__, cls)
        if other is not cls:
            raise SetupError(
                f"two events are named {cls.__name__}: in {other.__module__} and in {cls.__module__}",
                where=where,
                fix="rename one: the class's name is its schema's",
            )


def _check_emitted(topology: Topology, cls: type) -> None:
    """Somebody must emit it: the outside, or one stage, or several that say so."""
    producers = topology.producers(cls)
    name, stages = cls.__name__, " and ".join(stage.name for stage in producers)
    if cls in topology.sources:
        if producers:
            raise SetupError(
                f"event {name} is a source of topology {topology.name!r} and is emitted by {stages} too",
                where=_emitting(producers[0], cls).where,
                fix=f"take {name} from sources, or emit another event",
            )
    elif not producers:
        raise SetupError(
            f"event {name} is consumed, but no stage emits it",
            where=_named(topology, cls),
            fix=f"add {name} to the topology's sources, or emit it",
        )
    elif len(producers) > 1 and cls not in topology.joint:
        raise SetupError(
            f"event {name} is emitted by {stages}",
            where=_emitting(producers[1], cls).where,
            fix=f"emit it from one stage, or say joint=[{name}] in the topology",
        )


def _check_consumed(topology: Topology, cls: type) -> None:
    """Somebody must consume it: a stage, or the outside."""
    if topology.consumers(cls) or cls in topology.sinks:
        return
    if cls in topology.sources:
        what, where, fix = "a source", topology.where, "take it from sources, or consume it in a stage"
    else:
        what, where = "emitted", _named(topology, cls)
        fix = f"consume it in a stage, or add {cls.__name__} to the topology's sinks"
    raise SetupError(f"event {cls.__name__} is {what}, but no stage consumes it", where=where, fix=fix)


def _consuming(stage: Stage, cls: type) -> Handler:
    return next(handler for handler in stage.handlers if cls in handler.consumes)


def _emitting(stage: Stage, cls: type) -> Handler:
    return next(handler for handler in stage.handlers if cls in handler.emits)


def _named(topology: Topology, cls: type) -> str:
    """`file:line` of the first handler that names the event, or else of the topology."""
    for stage in topology.stages:
        for handler in stage.handlers:
            if cls in (*handler.consumes, *handler.emits):
                return handler.where
    return topology.where


def mermaid(topology: Topology) -> str:
    """The graph as a Mermaid flowchart: stages are boxes, topics the arrows between them; sources and sinks are rounded."""
    lines = ["flowchart LR"]
    # A prefix keeps a stage named `end` or `class` apart from Mermaid's own words.
    node = {stage.name: f"stage_{stage.name.replace('-', '_')}" for stage in topology.stages}
    lines += [f"    {node[stage.name]}[{stage.name}]" for stage in topology.stages]
    for number, cls in enumerate(topology.events, 1):
        topic = event_info(cls).topic
        consumers = topology.consumers(cls)
        if cls in topology.sources:
            lines.append(f"    topic_{number}([{topic}])")
            lines += [f"    topic_{number} --> {node[stage.name]}" for stage in consumers]
        for producer in topology.producers(cls):
            lines += [f"    {node[producer.name]} -->|{topic}| {node[stage.name]}" for stage in consumers]
            if cls in topology.sinks:
                lines.append(f"    {node[producer.name]} --> topic_{number}([{topic}])")
    return "\n".join(lines) + "\n"


def load(module: str) -> Topology:
    """Import a module and return the one topology in it, looking in the working directory first, as `python -m` does.

    Raises `SetupError` when there is no such module, when it cannot be imported, or when it holds no topology or several.
    """
    if not all(part.isidentifier() for part in module.split(".")):
        raise SetupError(f"{module!r} is no module's name", fix="write it as an import does, e.g. topologies.orders")
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        found = importlib.import_module(module)
    except SetupError:
        raise
    except Exception as error:  # whatever a module does when it is imported is its author's to mend
        raise _unimportable(module, error) from error
    topologies = {id(value): value for value in vars(found).values() if isinstance(value, Topology)}
    if len(topologies) != 1:
        listed = ", ".join(repr(topology.name) for topology in topologies.values()) or "none"
        raise SetupError(
            f"module {module!r} must hold one topology and holds {listed}",
            where=short_path(getattr(found, "__file__", None) or module),
            fix='bind one: orders = Topology("orders", …)',
        )
    return next(iter(topologies.values()))


def _unimportable(module: str, error: Exception) -> SetupError:
    if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
        return SetupError(f"no module named {error.name!r}", fix="run this where it can be imported, or name another")
    if isinstance(error, SyntaxError) and error.filename:
        place = (error.filename, error.lineno)
        text = error.msg
    else:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
        own = [
            frame for frame in frames if short_path(frame.filename) != frame.filename and "site-packages" not in frame.filename
        ]
        frame = (own or frames)[-1]  # the user's own line says more than the library's below it
        place = (frame.filename, frame.lineno)
        text = str(error)
    return SetupError(
        f"module {module!r} cannot be imported: {type(error).__name__}: {text}",
        where=f"{short_path(place[0])}:{place[1]}",
        fix="mend that line",
    )
