"""Records for people and for pipes.

The one rule: every record can be shown; what is no event is shown as the bytes that it is, with the reason.
"""

import base64
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from streams.codec import decode_any
from streams.errors import DecodeError
from streams.record import Record
from streams.registry import Registry


def as_json(record: Record, registry: Registry) -> str:
    """One line of JSON: the record's place, key and headers, `event` and `value`; or `undecodable` and the bytes as `value`."""
    shown: dict[str, Any] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": text(record.key),
        "headers": [(name, text(value)) for name, value in record.headers],
    }
    try:
        shown["event"], shown["value"] = _decode(record, registry)
    except DecodeError as error:
        shown |= {"undecodable": str(error), "value": text(record.value)}
    return msgspec.json.encode(shown).decode()


def as_text(record: Record, registry: Registry) -> str:
    """One line for a terminal, with colours."""
    time = datetime.fromtimestamp(record.timestamp / 1000, UTC).strftime("%H:%M:%S.%f")[:-3]
    try:
        event, value = _decode(record, registry)
        what = f"{click.style(event, fg='cyan')} {safe(msgspec.json.encode(value))}".lstrip()
    except DecodeError as error:
        what = f"{click.style(f'undecodable: {error}', fg='red')} {safe(record.value)}"
    headers = " ".join(f"{safe(name.encode())}={safe(value)}" for name, value in record.headers)
    place, key = click.style(f"{time} {record.place}", dim=True), click.style(safe(record.key), bold=True)
    return f"{place} {key} {what} {click.style(headers, dim=True)}"


def _decode(record: Record, registry: Registry) -> tuple[str | None, Any]:
    if record.value is None:  # a tombstone
        return None, None
    release, value = decode_any(record.value, registry)
    return release.schema.record, value


def text(value: bytes | None) -> str | dict[str, str] | None:
    """UTF-8 as a string; other bytes as {"base64": …}."""
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def safe(value: bytes | None) -> str:
    """Bytes as a terminal may get them: nothing in them can move its cursor or change its colours."""
    if value is None:
        return "null"
    text = value.decode(errors="backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
