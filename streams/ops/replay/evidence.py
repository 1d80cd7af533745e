"""What was really emitted: the records of a stage's output topics, by the event that caused them.

The one rule: it is on disk, so that a range of any length fits in memory.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Self

import msgspec

from streams.record import CAUSE, ID, Headers, Output, Record

_CHUNK: Final = 500
_ADD: Final = "INSERT INTO emitted VALUES (?, ?, ?, ?, ?, ?, ?)"
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Headers).decode
_Row = tuple[str, str, str, bytes | None, bytes | None, bytes | None, int]


class Emitted(msgspec.Struct, frozen=True):
    """One record as it is on its topic. `headers` are those beside `id` and `cause`; `timestamp` is in milliseconds."""

    id: str
    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp: int = 0


class Evidence:
    """Emitted records in a temporary file. As a context manager it is closed at the end."""

    def __init__(self, folder: Path) -> None:
        self._database = sqlite3.connect(folder / "evidence.db", isolation_level=None)
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "temp_store = FILE"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.execute("CREATE TABLE emitted (cause, id, topic, key, value, headers, timestamp)")
        self._indexed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def add(self, records: Iterable[Record]) -> int:
        """Take in what is on output topics; what has no cause is nobody's output. How many were taken."""
        before = self._database.total_changes
        rows: list[_Row] = []
        self._database.execute("BEGIN")
        for record in records:
            if (row := _row(record)) is not None:
                rows.append(row)
                if len(rows) == _CHUNK:
                    self._database.executemany(_ADD, rows)
                    rows.clear()
        self._database.executemany(_ADD, rows)
        self._database.execute("COMMIT")
        return self._database.total_changes - before

    def of(self, causes: Sequence[str]) -> dict[str, list[Emitted]]:
        """What these events led to, each id once, as it was first."""
        if not self._indexed:
            self._database.execute("CREATE INDEX by_cause ON emitted (cause)")
            self._indexed = True
        found: dict[str, list[Emitted]] = {}
        for start in range(0, len(causes), _CHUNK):
            some = causes[start : start + _CHUNK]
            marks = ",".join("?" * len(some))
            asked = f"SELECT * FROM emitted WHERE cause IN ({marks}) ORDER BY rowid"  # noqa: S608  # question marks only
            for cause, known, topic, key, value, headers, timestamp in self._database.execute(asked, some):
                mine = found.setdefault(cause, [])
                if all(other.id != known for other in mine):
                    mine.append(Emitted(known, topic, key, value, _decode(headers) if headers else (), timestamp))
        return found


def emitted(output: Output) -> Emitted:
    """An output as it would be on its topic."""
    own: dict[str, bytes] = {}
    through = []
    for header in output.headers:
        if header[0] in (ID, CAUSE) and header[0] not in own:
            own[header[0]] = header[1] or b""
        else:
            through.append(header)
    return Emitted(own.get(ID, b"").decode(), output.topic, output.key, output.value, tuple(through))


def _row(record: Record) -> _Row | None:
    known: bytes | None = None
    cause: bytes | None = None
    through = []
    for header in record.headers:
        if header[0] == ID and known is None:
            known = header[1]
        elif header[0] == CAUSE and cause is None:
            cause = header[1]
        else:
            through.append(header)
    if not known or not cause:
        return None
    headers = _encode(through) if through else None
    try:
        return cause.decode(), known.decode(), record.topic, record.key, record.value, headers, record.timestamp
    except UnicodeDecodeError:  # a foreign record: none of ours
        return None
