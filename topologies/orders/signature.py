"""Signed webhooks, as Standard Webhooks has them (https://www.standardwebhooks.com, specification 1.0.0).

The one rule: who checks compares in constant time and gives the time himself; nothing of a body is looked at before.
"""

import base64
import binascii
import hmac
from collections.abc import Mapping, Sequence
from typing import Final

from streams.errors import SetupError

ID: Final = "webhook-id"
TIMESTAMP: Final = "webhook-timestamp"
SIGNATURE: Final = "webhook-signature"
TOLERANCE: Final = 300
"""Seconds that the clocks of sender and receiver may differ, the way between them included."""

_PREFIX: Final = "whsec_"
_ID_LIMIT: Final = 128  # characters; ours have 36
_SIGNATURES: Final = 8  # more than a rotation of secrets needs


class BadSignature(Exception):
    """A request that is not the sender's, or not of now. The message may be shown to whoever sent it."""


def secret(text: str, where: str) -> bytes:
    """The key in a secret as it is written, `whsec_` and base64. Raises `SetupError`, which does not repeat it."""
    try:
        key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not 24 <= len(key) <= 64:
        raise SetupError(
            "this is no secret of webhooks",
            where=where,
            fix="use `whsec_` and the base64 of 24 to 64 random bytes: openssl rand -base64 32",
        )
    return key


def sign(key: bytes, webhook_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers that go with a body. `timestamp` is that of this attempt, in seconds since the Unix epoch."""
    return {ID: webhook_id, TIMESTAMP: str(timestamp), SIGNATURE: f"v1,{_mac(key, webhook_id, str(timestamp), body)}"}


def verify(keys: Sequence[bytes], headers: Mapping[str, str], body: bytes, now: float) -> str:
    """The id of a webhook that one of `keys` has signed, within `TOLERANCE` of `now` (seconds since the Unix epoch).

    `headers` are looked up by their lower-case names. Raises `BadSignature`.
    """
    webhook_id, timestamp, given = (headers.get(name, "") for name in (ID, TIMESTAMP, SIGNATURE))
    if not (webhook_id and timestamp and given):
        raise BadSignature(f"{ID}, {TIMESTAMP} and {SIGNATURE} are needed")
    if len(webhook_id) > _ID_LIMIT or not (webhook_id.isascii() and webhook_id.isprintable()):
        raise BadSignature(f"{ID} is no id")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise BadSignature(f"{TIMESTAMP} is no number of seconds")
    if abs(now - int(timestamp)) > TOLERANCE:
        raise BadSignature(f"{TIMESTAMP} is more than {TOLERANCE} s from now")
    expected = [_mac(key, webhook_id, timestamp, body).encode() for key in keys]
    good = False
    for one in given.split(" ")[:_SIGNATURES]:
        version, _, signature = one.partition(",")
        for mac in expected:  # all of them, whatever the first says: the time tells nothing
            good |= version == "v1" and hmac.compare_digest(mac, signature.encode("utf-8", "replace"))
    if not good:
        raise BadSignature("no signature of ours")
    return webhook_id


def _mac(key: bytes, webhook_id: str, timestamp: str, body: bytes) -> str:
    return base64.b64encode(hmac.digest(key, f"{webhook_id}.{timestamp}.".encode() + body, "sha256")).decode()
