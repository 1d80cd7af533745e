"""What is different between what an event gives now and what it gave then, and in which way.

The one rule: two outputs are compared by id; what travels through untouched (traces) is no difference.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from streams.codec import decode_any
from streams.errors import DecodeError
from streams.ops.replay.evidence import Emitted
from streams.ops.show import text
from streams.record import BORN, Headers
from streams.registry import Registry

TRACE: Final = frozenset({"traceparent", "tracestate", "baggage", BORN})
_LONGEST: Final = 200
"""Fields of one output that are listed: a shape is for people."""


class Change(msgspec.Struct, frozen=True):
    """One field that was something else. `path` is as in `lines[2].amount_minor`; what was not there is None."""

    path: str
    was: Any
    now: Any


class Difference(msgspec.Struct, frozen=True):
    """One output: `changed` with its fields, `new` (only now), `gone` (only then)."""

    kind: str
    topic: str
    id: str
    changes: tuple[Change, ...] = ()

    @property
    def shape(self) -> str:
        """The same for all outputs that differ in the same way."""
        if self.kind != "changed":
            return f"{self.kind}: {self.topic}"
        fields = sorted({_everywhere(change.path) for change in self.changes})
        return f"{self.topic}: {', '.join(fields)}"


def compare(
    now: Mapping[str, Emitted], then: Mapping[str, Emitted], registry: Registry, ignore: frozenset[str]
) -> list[Difference]:
    """What differs between two sets of outputs by id, in the order of `now`. `ignore` names fields that may differ."""
    found = []
    for known, output in now.items():
        other = then.get(known)
        if other is None:
            found.append(Difference("new", output.topic, known))
        elif not _same(output, other) and (changes := _changes(other, output, registry, ignore)):
            found.append(Difference("changed", output.topic, known, tuple(changes[:_LONGEST])))
    found += [Difference("gone", output.topic, known) for known, output in then.items() if known not in now]
    return found


def _same(one: Emitted, other: Emitted) -> bool:
    return (
        one.value == other.value
        and one.key == other.key
        and one.topic == other.topic
        and (one.headers == other.headers or _kept(one.headers) == _kept(other.headers))
    )


def _kept(headers: Headers) -> list[tuple[str, bytes | None]]:
    return [header for header in headers if header[0] not in TRACE]


def _changes(was: Emitted, now: Emitted, registry: Registry, ignore: frozenset[str]) -> list[Change]:
    found = []
    if was.topic != now.topic:
        found.append(Change("(topic)", was.topic, now.topic))
    if was.key != now.key:
        found.append(Change("(key)", text(was.key), text(now.key)))
    if was.value != now.value:
        found += list(walk(_decoded(was.value, registry), _decoded(now.value, registry)))
    one, other = _kept(was.headers), _kept(now.headers)
    if one != other:
        shown = [[(name, text(value)) for name, value in headers] for headers in (one, other)]
        found.append(Change("(headers)", *shown))
    return [change for change in found if _everywhere(change.path) not in ignore]


def _decoded(value: bytes | None, registry: Registry) -> Any:
    try:
        return decode_any(value, registry)[1]
    except DecodeError:
        return text(value)


def walk(was: Any, now: Any, path: str = "") -> Iterator[Change]:
    """Every leaf at which two values differ."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for name in dict.fromkeys((*was, *now)):
            yield from walk(was.get(name), now.get(name), f"{path}.{name}" if path else str(name))
    elif _listed(was) and _listed(now):
        for index in range(max(len(was), len(now))):
            one, other = (values[index] if index < len(values) else None for values in (was, now))
            yield from walk(one, other, f"{path}[{index}]")
    elif was != now:
        yield Change(path or "(value)", was, now)


def _listed(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _everywhere(path: str) -> str:
    """`lines[2].sku` and `lines[7].sku` are one thing to whoever reads a summary."""
    parts = path.split("[")
    return "[]".join([parts[0], *(part.partition("]")[2] for part in parts[1:])])
