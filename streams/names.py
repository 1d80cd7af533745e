"""Every name that is derived from a topology's or a stage's name.

The one rule: a derived name is spelled here and nowhere else.
"""

import re
from typing import Final

from streams.errors import SetupError

_WORD: Final = re.compile(r"[a-z][a-z0-9-]*")
_TOPIC: Final = re.compile(r"[a-z0-9][a-z0-9._-]*")
_TOPIC_LENGTH: Final = 249  # Kafka's own limit


def check_word(name: str, what: str, where: str = "") -> str:
    """A topology's or stage's name: lower-case letters, digits and dashes, at most 60. Returns it, or raises `SetupError`."""
    if not _WORD.fullmatch(name) or len(name) > 60:
        raise SetupError(
            f"bad name {name!r} of a {what}",
            where=where,
            fix="use a lower-case letter, then letters, digits or dashes, at most 60",
        )
    return name


def check_topic(name: str, where: str = "") -> str:
    """A topic's name, or `SetupError`."""
    if not _TOPIC.fullmatch(name) or len(name) > _TOPIC_LENGTH:
        raise SetupError(
            f"bad topic name {name!r}",
            where=where,
            fix=f"use lower-case letters, digits, '.', '_' and '-', at most {_TOPIC_LENGTH}",
        )
    return name


def group(topology: str, stage: str) -> str:
    """The consumer group of a stage."""
    return f"{topology}.{stage}"


def transactional_id(topology: str, stage: str, instance: str) -> str:
    """The transactional id of one instance of a stage: stable, so that a restart fences its dead self at once."""
    return f"{topology}.{stage}.{instance}"


def retry(topology: str, stage: str) -> str:
    """The parking table of a stage."""
    return f"{topology}.{stage}.retry"


def dlq(topology: str, stage: str) -> str:
    """The dead letters of a stage."""
    return f"{topology}.{stage}.dlq"


def cases(topology: str) -> str:
    """The cases of a topology."""
    return f"{topology}.cases"


def cases_operator(topology: str) -> str:
    """The one transactional id of everybody who decides cases: the later tool fences the earlier."""
    return f"{topology}.cases.operator"


def publisher(topology: str) -> str:
    """The one transactional id of whoever publishes what comes in from outside: the later process fences the earlier."""
    return f"{topology}.publisher"


def repair(topology: str, stage: str) -> str:
    """The one transactional id of whoever publishes what a stage should have: the later repair fences the earlier."""
    return f"{topology}.{stage}.repair.operator"


def receipts(topology: str) -> str:
    """The receipts of a topology."""
    return f"{topology}.receipts"
