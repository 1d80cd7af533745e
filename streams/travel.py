"""From a record to its outputs: ids, headers, keys, sizes.

The one rule: an output's id follows from its cause, the stage and its index alone, and headers that are not ours travel on
untouched.
"""

from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from operator import attrgetter
from typing import Any, Final

from streams.codec import Codec
from streams.errors import Reject
from streams.record import BORN, CAUSE, ID, Header, Headers, Output, Record, event_info
from streams.trace import Place, Step

OUTPUT_LIMIT: Final = 1_000_000
"""Bytes of key, value and headers that one output may have: a broker takes 1,048,588 for a whole batch by default."""
FAN: Final = 64
"""Outputs of one event among which an id is looked for: who looks backwards does not know how many there were."""
_ID_LIMIT: Final = 64
_LARGE: Final = OUTPUT_LIMIT // 4
_MANY: Final = 64
_LONG: Final = OUTPUT_LIMIT // 2 // _MANY


def event_id(record: Record) -> str:
    """The record's `id` header, or one derived from its place if it has none that is fit to be one."""
    for name, value in record.headers:  # mostly the first: a generator would cost more than the rest
        if name == ID:
            return _id_of(record, value)
    return _id_of(record, None)


def _id_of(record: Record, said: bytes | None) -> str:
    if said and len(said) <= _ID_LIMIT and said.isascii():
        text = said.decode()
        if text.isprintable():
            return text
    return _digest(f"{record.topic}/{record.partition}/{record.offset}")


def output_id(cause: str, stage: str, index: int) -> str:
    """The id of a stage's `index`-th output for an event: the same however often it is made."""
    return _digest(f"{cause}/{stage}/{index}")


_blank: Final = blake2b(digest_size=16).copy  # a copy is made in half the time of a new one


def _digest(text: str) -> str:
    digest = _blank()
    digest.update(text.encode())
    return digest.hexdigest()


@lru_cache(maxsize=1024)
def _born(timestamp: int) -> Header:
    """Many records of a batch are of one millisecond."""
    return BORN, b"%d" % timestamp


class Travel:
    """What a record gives its outputs on their way: its id as their `cause`, and the headers that are not ours.

    `large`: these are so many bytes that an output's size has to be looked at. The rest is for traces, if there are any: `case`
    is that of a record that was redriven, `trace` where the attempt stands in one, and `step` the span that outputs name.
    """

    __slots__ = ("case", "cause", "large", "step", "through", "trace")

    def __init__(self, record: Record) -> None:
        ids: list[bytes | None] = []
        through: list[Header] = []
        size, born = 0, False
        for header in record.headers:
            name, value = header
            if name == ID:
                ids.append(value)
            elif name != CAUSE:
                through.append(header)
                born = born or name == BORN
                size += len(name) + (len(value) if value else 0)
        if not born and record.timestamp > 0:  # it comes from a source: how long the flow takes is counted from here
            through.append(_born(record.timestamp))
        self.cause = _id_of(record, ids[0] if ids else None)
        self.large = size > _LONG or len(through) > _MANY
        self.through = through
        self.case = b""
        self.trace: Place | Step | None = None
        self.step: Step | None = None

    def headers(self, stage: str, index: int) -> Headers:
        """Those of the `index`-th output."""
        known = output_id(self.cause, stage, index).encode()
        if self.step is not None:
            return ((ID, known), (CAUSE, self.cause.encode()), self.step.header(known), *self.through)
        return ((ID, known), (CAUSE, self.cause.encode()), *self.through)


class Writing:
    """How events of one class become outputs."""

    __slots__ = ("_encode", "_key", "_topic")

    def __init__(self, cls: type, codec: Codec) -> None:
        info = event_info(cls)
        self._topic = info.topic
        self._key = attrgetter(info.key)
        self._encode: Callable[[Any], bytes] = codec.encoder(cls)

    def output(self, event: Any, headers: Headers, large: bool) -> Output:
        """The output; `large`: its headers are. Raises `EncodeError`, and `Reject` for one that no broker would take."""
        value = self._encode(event)
        if large or len(value) > _LARGE:
            _check_size(self._topic, value, headers)
        return Output(self._topic, str(self._key(event)).encode(), value, headers)


def _check_size(topic: str, value: bytes, headers: Headers) -> None:
    """Refuse what a broker would refuse, since there it would abort the transaction of everybody else, again and again."""
    size = len(value) + sum(len(name) + len(content or b"") for name, content in headers)
    if size > OUTPUT_LIMIT:
        raise Reject(f"an output to {topic} has {size:,} bytes; {OUTPUT_LIMIT:,} are allowed")
