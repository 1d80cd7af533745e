"""Changing the event of a dead record by hand.

The one rule: what comes out is a sound event of its topic, checked against class and schema, with the key that it had: another
key would belong to another lane.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from streams.codec import Codec
from streams.dead import Case
from streams.errors import DecodeError, EncodeError, SetupError
from streams.ops.send import check
from streams.record import event_info
from streams.topology import Topology
from streams.travel import OUTPUT_LIMIT

_STEP: Final = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
_PATH: Final = re.compile(r"[^.\[\]]+(\.[^.\[\]]+|\[\d+\])*")


class Editor:
    """The events of one case's topic, as JSON and back. Raises `SetupError` for a topic that the topology has no more."""

    def __init__(self, topology: Topology, codec: Codec, case: Case) -> None:
        if case.topic not in topology.by_topic:
            raise SetupError(f"topology {topology.name!r} knows no topic {case.topic}", fix="edit with the version that does")
        self._case = case
        self._class = topology.by_topic[case.topic]
        self._decode: Callable[[bytes | None], Any] = codec.decoder(self._class)
        self._encode: Callable[[Any], bytes] = codec.encoder(self._class)

    def show(self, value: bytes | None) -> str:
        """A value as JSON of many lines. Raises `DecodeError` for what is no event of the topic."""
        event = self._decode(value)
        return msgspec.json.format(msgspec.json.encode(event), indent=2).decode() + "\n"

    def read(self, text: str | bytes, before: bytes | None) -> bytes:
        """The value that JSON stands for. `before` is the value that it takes the place of.

        Raises `SetupError` for what is no JSON or no sound event, for another key, and for more than a record may have.
        """
        try:
            event = check(text.encode() if isinstance(text, str) else text, self._class)
            value = self._encode(event)
        except (msgspec.MsgspecError, EncodeError, UnicodeError, RecursionError) as error:
            raise SetupError(f"no sound {self._class.__name__}: {error}", fix="correct it; nothing was changed") from None
        key, own = str(getattr(event, event_info(self._class).key)), self._key(before)
        if own is not None and key != own:
            field = event_info(self._class).key
            fix = "leave the key as it is, or dismiss the case and send a new event"
            raise SetupError(f"{field} is {key!r}, but the record's key is {own!r}", fix=fix)
        if len(value) > OUTPUT_LIMIT:
            raise SetupError(f"the event has {len(value):,} bytes", fix=f"at most {OUTPUT_LIMIT:,} are allowed")
        return value

    def _key(self, before: bytes | None) -> str | None:
        """The key that the event has to have: what it had, or if that cannot be read, the record's."""
        try:
            event = self._decode(before)
            return str(getattr(event, event_info(self._class).key))
        except DecodeError:
            try:
                return self._case.key.decode() if self._case.key is not None else None
            except UnicodeDecodeError:
                return None


def assign(text: str, changes: Sequence[str]) -> str:
    """JSON with some places changed: `path=value`, as in `lines[0].quantity=2` or `currency=EUR`.

    A value is JSON if it can be, else a string. Raises `SetupError` for a place that is not there.
    """
    event = msgspec.json.decode(text)
    for change in changes:
        path, equals, value = change.partition("=")
        if not equals or not _PATH.fullmatch(path):
            raise SetupError(f"{change!r} is no change", fix="write path=value, as in lines[0].quantity=2")
        steps = [name or int(index) for name, index in _STEP.findall(path)]
        try:
            place: Any = event
            for step in steps[:-1]:
                place = place[step]
            place[steps[-1]] = _value(value)
        except (KeyError, IndexError, TypeError):
            raise SetupError(f"the event has no place {path!r}", fix="see it with `towpath cases show`") from None
    return msgspec.json.encode(event).decode()


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
