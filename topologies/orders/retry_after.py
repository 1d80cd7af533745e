"""Retry-After: how long another side asks us to wait.

The one rule: what it says is taken in seconds and within bounds, or it has said nothing.
"""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def retry_after(text: str, longest: float) -> float | None:
    """Seconds, from 0 to `longest`, in a header that is a number or a date (RFC 9110, 10.2.3); None if it is neither."""
    if text.isascii() and text.isdigit():
        seconds = float(text[:9])
    else:
        try:
            when = parsedate_to_datetime(text)
        except ValueError:
            return None
        seconds = (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), longest)
