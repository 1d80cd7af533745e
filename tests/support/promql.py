"""Which metrics a PromQL expression reads.

The one rule: no more is understood of the language than that needs; whether an expression is one, Prometheus says.
"""

import re
from typing import Final

_TEXT: Final = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'')
_LABELS: Final = re.compile(r"\{[^}]*\}|\[[^\]]*\]|\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_NAME: Final = re.compile(r"(?<![\w:.])([a-zA-Z_:][\w:]*)\b(?!\s*\()")
_WORDS: Final = frozenset({"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring", "inf", "nan"})
_GROUPS: Final = frozenset({"group_left", "group_right"})


def metrics(expression: str) -> set[str]:
    """The names of its metrics: what is neither a function, a keyword, a label, a duration nor a text."""
    bare = _LABELS.sub(" ", _TEXT.sub('""', expression))
    return {name for name in _NAME.findall(bare) if name.lower() not in _WORDS | _GROUPS}
