"""Avro as any other client would read it: fastavro, the `.avsc` files and LOCK.

The one rule: nothing of `streams` is used here, so that a fault of our codec cannot hide itself.
"""

import io
import json
from pathlib import Path
from typing import Any

import fastavro


class Contracts:
    """The released schemas of a folder."""

    def __init__(self, folder: Path) -> None:
        self._by_id: dict[int, Any] = {}
        self._by_record: dict[str, int] = {}
        for line in (folder / "LOCK").read_text().splitlines():
            number, _, _, _, path = line.split("\t")
            self._by_id[int(number)] = fastavro.parse_schema(json.loads((folder / path).read_text()), named_schemas={})
            self._by_record[Path(path).parent.name] = int(number)

    def decode(self, data: bytes) -> dict[str, Any]:
        """What a value in the wire format says."""
        assert data[0] == 0
        body = io.BytesIO(data[5:])
        value: dict[str, Any] = fastavro.schemaless_reader(body, self._by_id[int.from_bytes(data[1:5])], None)  # type: ignore[assignment]  # a record
        assert not body.read()
        return value

    def encode(self, record: str, value: dict[str, Any]) -> bytes:
        """A value of the newest version of a record."""
        number = self._by_record[record]
        body = io.BytesIO()
        fastavro.schemaless_writer(body, self._by_id[number], value)
        return b"\0" + number.to_bytes(4) + body.getvalue()
