"""What a process says of itself: one JSON object a line in a pipe, readable lines on a terminal.

The one rule: no line holds a secret, a card number or an e-mail address, whoever wrote it. What a handler logs carries the
record that it is at.
"""

import json
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TextIO
from urllib.parse import unquote, urlsplit

from streams.config import Settings
from streams.stage import AT, HERE
from streams.trace import incoming

_QUIET: Final = ("faust", "mode", "streams.worker", "aiohttp.access")  # each service's start and stop, each look at /health
_SECRET_NAME: Final = re.compile(r"secret|password|passwd|token|api_?key|_key$|\.key\.pem|jaas|credential", re.IGNORECASE)
_SHORT: Final = 6  # characters: what is shorter is no secret worth the name, and would mask half of each line
_CARD: Final = re.compile(r"(?<![\w.@-])[2-6](?:[ -]?\d){12,18}(?![\w.-])")
_MASKS: Final = (
    (re.compile(r"(\w://)[^\s/@:]*:[^\s/@]+@"), r"\1[secret]@"),
    (re.compile(r"\bwhsec_[\w+/=-]+"), "[secret]"),
    (re.compile(r"\b(Bearer|Basic)\s+[\w+/=.~-]+", re.IGNORECASE), r"\1 [secret]"),
    (re.compile(r"[\w.+%'-]+@(?:[\w-]+\.)+[A-Za-z]{2,}"), "[e-mail]"),
)
_OURS: Final = ("stage", "topic", "partition", "offset", "attempt", "event_id", "key", "trace_id")


def set_up(stream: TextIO, settings: Settings | None = None) -> None:
    """Log to this stream, at INFO. What `settings` keep secret is masked in every line, whoever wrote it, and in tracebacks."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter((_Readable if stream.isatty() else _Json)(secrets(settings) if settings else ()))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def masking(settings: Settings) -> Callable[[str], str]:
    """What takes out of a text what no line of a log may hold: spans leave the machine as well."""
    return _Masked(secrets(settings)).mask


def secrets(settings: Settings) -> set[str]:
    """The values of settings that are secret by their name, and the passwords in URLs."""
    named = {**settings.variables, **settings.kafka}
    found = {part for name, value in named.items() if _SECRET_NAME.search(name) for part in (value, *value.split())}
    found |= {unquote(password) for value in (settings.store, *named.values()) if (password := _password(value))}
    return {value for value in found if len(value) >= _SHORT}


def _password(url: str) -> str | None:
    try:
        return urlsplit(url).password
    except ValueError:
        return None


class _Masked(logging.Formatter):
    """A formatter whose lines hold nothing that is secret."""

    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self, hidden: Iterable[str]) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self.converter = time.gmtime  # UTC
        self._hidden = sorted(hidden, key=len, reverse=True)  # the longest first: one may be a part of another

    def mask(self, text: str) -> str:
        for secret in self._hidden:
            text = text.replace(secret, "[secret]")
        for pattern, instead in _MASKS:
            text = pattern.sub(instead, text)
        return _CARD.sub(_masked_card, text)


class _Readable(_Masked):
    """For a terminal: time, level, logger, message, and where."""

    def format(self, record: logging.LogRecord) -> str:
        where = " ".join(f"{name}={value}" for name, value in _where(record))
        first, *more = super().format(record).split("\n")
        return self.mask("\n".join((f"{first}  [{where}]" if where else first, *more)))


class _Json(_Masked):
    """For a pipe: `time`, `level`, `logger`, `message`, where known the record that it is about, and `error`, a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": self.mask(record.getMessage()),
        }
        line |= {name: self.mask(value) if isinstance(value, str) else value for name, value in _where(record)}
        if record.exc_info:
            line["error"] = self.mask(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


def _where(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    """Stage and record of a line: what the call gave as `extra`, else what the running handler is at."""
    context = AT.get() or HERE.context
    known: dict[str, Any] = {}
    if context is not None:
        at = context.record
        trace = context.trace or incoming(at.headers)
        key = at.key.decode("utf-8", "replace") if at.key is not None else None
        place = (context.stage, at.topic, at.partition, at.offset, context.attempt)
        values = (*place, context.event_id, key, trace.trace_id if trace is not None else None)
        known = dict(zip(_OURS, values, strict=True))
    for name in _OURS:
        value = getattr(record, name, known.get(name))
        if value is not None:
            yield name, value


def _masked_card(found: re.Match[str]) -> str:
    digits = [int(char) for char in found[0] if char.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return "[card]" if (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0 else found[0]
