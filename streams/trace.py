"""Where a record stands in a trace, by W3C's `traceparent`, and what a span is.

The one rule: values only. A trace's id follows from the event that began it, and a sent record's span id from that record's
id, so that the same event handled twice writes the same bytes.

Source: https://www.w3.org/TR/trace-context/ (level 2, without its rules for HTTP).
"""

import re
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final
from zlib import crc32

import msgspec

from streams.record import Header

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
SAMPLED: Final = 1

INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER = 1, 2, 3, 4, 5
"""Kinds of spans, as OTLP numbers them."""

_FORM: Final = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL
)
_KNOWN: Final = 3  # of the flags: sampled, and random
_BITS: Final = 32
_is_id: Final = re.compile(r"[0-9a-f]{16}(?!0{16})[0-9a-f]{16}").fullmatch
_STATE_LIMIT: Final = 512

Value = str | int


class Place(msgspec.Struct, frozen=True, gc=False):
    """A span as others name it: 32 and 16 hex digits, and W3C's flags."""

    trace_id: str
    span_id: str
    flags: int

    @property
    def sampled(self) -> bool:
        """Whether somebody has decided to keep this trace."""
        return bool(self.flags & SAMPLED)


class Sampler(msgspec.Struct, frozen=True):
    """Which traces are kept. `bound`: of 2**32, the share of those that begin here; `parent`: others keep their own decision.

    `errors`: an attempt that fails is kept whatever was decided. The decision goes by a checksum of the trace's id: whoever
    gives events their ids may have counted them.
    """

    bound: int = 1 << _BITS
    parent: bool = True
    errors: bool = True

    @classmethod
    def of(cls, share: float, *, parent: bool = True) -> "Sampler":
        """One that keeps this share, from 0 to 1."""
        return cls(round(share * (1 << _BITS)), parent)

    def keeps(self, trace_id: str, place: Place | None = None) -> bool:
        """The decision on a trace; `place` is where it comes from."""
        if place is not None and self.parent:
            return place.sampled
        return crc32(trace_id.encode()) < self.bound


class Shape(msgspec.Struct, eq=False, frozen=True):
    """What spans of one kind have in common. Made once, so that it is encoded once."""

    name: str
    kind: int
    attributes: tuple[tuple[str, Value], ...] = ()


class Span(msgspec.Struct, gc=False):
    """What happened from `start` to `end` (nanoseconds since the Unix epoch). `error`: None, or what went wrong."""

    shape: Shape
    trace_id: str
    span_id: str
    parent: str
    start: int
    end: int
    attributes: tuple[tuple[str, Value], ...] = ()
    links: tuple[Place, ...] = ()
    error: str | None = None
    state: str = ""


class Step:
    """One attempt at one record as a span to be: its trace, what it is a part of or what it goes back to."""

    __slots__ = ("_after", "_before", "flags", "links", "parent", "span_id", "spans", "state", "trace_id")

    def __init__(self, trace_id: str, span_id: str, parent: Place | None, flags: int, links: tuple[Place, ...] = ()) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        self.parent = parent.span_id if parent is not None else ""
        self.flags = flags
        self.links = links
        self.state = ""
        self.spans: list[Span] = []  # what the handler did meanwhile
        self._before = f"00-{trace_id}-".encode()
        self._after = b"-%02x" % flags

    def header(self, known: bytes) -> Header:
        """The `traceparent` of an output with this id: its own span's is the first half of it."""
        return TRACEPARENT, self._before + known[:16] + self._after


def parse(value: bytes | None) -> Place | None:
    """What a `traceparent` says; None for one that W3C would have us ignore."""
    found = _FORM.fullmatch(value or b"")
    if found is None or (found[5] and found[1] == b"00"):
        return None
    return Place(found[2].decode(), found[3].decode(), int(found[4], 16) & _KNOWN)


def write(place: Place) -> bytes:
    """A `traceparent`."""
    return f"00-{place.trace_id}-{place.span_id}-{place.flags:02x}".encode()


def incoming(headers: Iterable[Header]) -> Place | None:
    """Where a record comes from: None where no header says so, or two do."""
    said = [value for name, value in headers if name == TRACEPARENT]
    return parse(said[0]) if len(said) == 1 else None


def root(trace_id: str, flags: int = 0) -> Place:
    """The first of a trace that begins with an event: both halves of its id say so."""
    return Place(trace_id, trace_id[16:], flags)


def state(headers: Iterable[Header]) -> str:
    """The `tracestate` of a record, for its spans; empty if there is none or it is no such thing."""
    text = b",".join(value or b"" for name, value in headers if name == TRACESTATE)
    return text.decode() if len(text) <= _STATE_LIMIT and text.isascii() else ""


def begun_by(what: str) -> str:
    """The id of the trace that an event begins: the event's own, if it can be one, else made from it."""
    if _is_id(what):
        return what
    return blake2b(what.encode(), digest_size=16, person=b"towpath trace").hexdigest()
