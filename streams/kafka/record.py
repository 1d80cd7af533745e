"""A record as librdkafka hands it over.

The one rule: whatever a producer in any language has written can be read; nothing in a message stops its reader.
"""

from operator import methodcaller
from typing import Final

from confluent_kafka import Message

from streams.record import Headers, Record

# Called through C, which looks at each call's result: the interpreter's own fast path would let a broken one pass.
_read_headers: Final = methodcaller("headers")


def record_of(message: Message) -> Record:
    """The record in a message that is no error. A header's name that is not UTF-8 becomes U+FFFD; its value stays."""
    return Record(
        message.topic(),
        message.partition(),
        message.offset(),
        message.key(),
        message.value(),
        _headers(message),
        message.timestamp()[1],
    )


def _headers(message: Message) -> Headers:
    try:
        return tuple(_read_headers(message) or ())
    except SystemError:  # confluent-kafka has left a null pointer in the place of such a name: it must not be touched
        return tuple(("\ufffd", pair[1]) if repr(pair).startswith("(<NULL>") else pair for pair in message.headers())
