"""Every error of the runtime, as one small tree.

The one rule: an error says what is wrong, where, and what to do about it; a verdict is an error that a handler speaks.
"""


class TowpathError(Exception):
    """The root: whatever the runtime raises on purpose."""


class SetupError(TowpathError):
    """Something to be fixed before the start. `where` is `file:line` or a name; `fix` is what to do."""

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}; {self.fix}" if self.fix else text


class DecodeError(TowpathError):
    """Bytes that are no event of their topic. The message says what is wrong and at which byte."""


class EncodeError(TowpathError):
    """An event whose values its schema cannot hold. The message names the field."""


class Aborted(TowpathError):
    """The transaction did not happen. The session stands at its last commit again: read on from there."""


class Fenced(TowpathError):
    """Another instance has taken over, or the session is beyond repair: the process ends and is started again."""


class Undecidable(TowpathError):
    """A replay cannot tell what would come of an event: nothing is recorded of what a dependency answered."""


class Spoken(TowpathError):
    """A verdict that a handler speaks by raising it."""


class Retry(Spoken):
    """Try this event again later. `after` (seconds) replaces the delay of the stage's backoff once."""

    def __init__(self, reason: str, *, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class Unavailable(Spoken):
    """A dependency is away: the stage holds and probes; no attempt is spent. `after` (seconds) is the dependency's own wish."""

    def __init__(self, dependency: str, *, after: float | None = None) -> None:
        super().__init__(dependency)
        self.dependency = dependency
        self.after = after


class Conflict(Unavailable):
    """The database undid the transaction for the sake of another one: nothing has happened; run it again at once."""


class Reject(Spoken):
    """This event can never be handled: dead at once."""
