"""What an application has to say when its flow is reconciled: books beyond the topics, and how they must agree.

The one rule: pure words. Whoever reconciles brings the evidence; an application says what it proves.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

Value = str | int | bool | None


class Difference(msgspec.Struct, frozen=True):
    """One thing that does not add up. `kind` is a word of the runbook's table; `where` a stage or a book.

    `ids` name what it is about; `ours` and `theirs` are the two sides; `repair` is the verb to set it right with. `at` is
    when, in milliseconds since the Unix epoch, if that is known.
    """

    kind: str
    where: str
    ids: tuple[str, ...]
    ours: str
    theirs: str
    repair: str
    at: int | None = None


class Fact(msgspec.Struct, frozen=True):
    """What one source says of a key: an event of a topic, a row, a line. `at` is in milliseconds since the Unix epoch."""

    source: str
    at: int
    values: tuple[Value, ...]


class Evidence(Protocol):
    """What was collected, on disk. Events noted are in it under their topic; `put` adds other sources."""

    databases: Sequence[str]
    statements: Sequence[Path]
    taken_at: int
    """When the databases were to be read, in milliseconds since the Unix epoch: before the ends of the topics were taken."""
    whole: bool
    """Whether the topics were read from their very beginning: only then is it sure what is not there."""

    def put(self, source: str, rows: Iterable[tuple[str, int, tuple[Value, ...]]]) -> None:
        """Add what a source says: key, time, values."""
        ...

    def by_key(self) -> Iterator[tuple[str, list[Fact]]]:
        """Everything of one key after everything of another, in the order of time.

        What waits (parked, dead, not yet consumed) is there as source `waiting`, with the stage as its value.
        """
        ...


class Books(msgspec.Struct, frozen=True):
    """What is compared beside the topics.

    `note` says what is kept of an event: its key and the values that count. `load` reads the other sources into the
    evidence; it is called before the topics' ends are taken. `check` yields what does not agree.
    """

    note: Mapping[type, Callable[[Any], tuple[str, tuple[Value, ...]]]]
    load: Callable[[Evidence], None]
    check: Callable[[Evidence], Iterable[Difference]]
