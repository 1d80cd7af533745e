"""Avro's numbers and times on the wire: zigzag varints, and milliseconds since the Unix epoch.

The one rule: no number of more than 64 bits goes in or out.
Source: Avro 1.12 specification, "Binary encoding".
"""

from datetime import UTC, datetime, timedelta
from typing import Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLI: Final = timedelta(milliseconds=1)
MIN_MILLIS: Final = (datetime.min.replace(tzinfo=UTC) - EPOCH) // _MILLI
MAX_MILLIS: Final = (datetime.max.replace(tzinfo=UTC) - EPOCH) // _MILLI
_SIX: Final = 0x008080808080  # the marks of a number of six bytes, which a time between July 1970 and 2039 is


def read_long(data: bytes, pos: int) -> tuple[int, int]:
    """The number at `pos` and the place after it. Raises `IndexError` where the bytes end, `ValueError` past 64 bits."""
    n = shift = 0
    while True:
        byte = data[pos]
        pos += 1
        n |= (byte & 127) << shift
        if byte < 128:
            break
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
    if n >= 2**64:
        raise ValueError("a number of more than 64 bits")
    return (n >> 1) ^ -(n & 1), pos


def read_length(data: bytes, pos: int) -> tuple[int, int]:
    """A length at `pos` and the place after it. Raises `ValueError` for one below 0; it may be past the end."""
    size, pos = read_long(data, pos)
    if size < 0:
        raise ValueError("a length below 0")
    return size, pos


def read_count(data: bytes, pos: int) -> tuple[int, int]:
    """The number of items in the block at `pos`, and where they start; it may be more than there are."""
    count, pos = read_long(data, pos)
    if count < 0:
        count = -count
        _, pos = read_long(data, pos)  # the block's size in bytes, for those who skip it
    return count, pos


def write_long(n: int) -> bytes:
    """The bytes of a number. Raises `OverflowError` past 64 bits, `TypeError` for what is no int."""
    if not -(2**63) <= n < 2**63:
        raise OverflowError("a number of more than 64 bits")
    n = (n << 1) ^ (n >> 63)
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def write_time(n: int) -> bytes:
    """`write_long`, quicker for what most times are."""
    if not 2**34 <= n < 2**41:
        return write_long(n)
    n <<= 1
    n = n & 127 | (n & 127 << 7) << 1 | (n & 127 << 14) << 2 | (n & 127 << 21) << 3 | (n & 127 << 28) << 4 | n >> 35 << 40
    return (n | _SIX).to_bytes(6, "little")


def to_millis(time: datetime) -> int:
    """Milliseconds since the Unix epoch, rounded down.

    Raises `TypeError` for a time without a zone, `OverflowError` for one whose zone puts it outside year 1 to 9999.
    """
    delta = time - EPOCH
    millis = (delta.days * 86_400 + delta.seconds) * 1000 + delta.microseconds // 1000
    if not MIN_MILLIS <= millis <= MAX_MILLIS:
        raise OverflowError("a time outside year 1 to 9999")
    return millis
