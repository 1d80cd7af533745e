"""Faults to order: what goes wrong at a port, and with which order, for demos and tests.

The one rule: an order's fate follows from its id alone, so that whoever knows the orders knows the faults of a run beforehand.
"""

import time
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Final, Self

import msgspec

from streams.config import PREFIX, Settings
from streams.errors import Reject, Retry, SetupError, Unavailable

_OWN: Final = "faults_"


class Fate(StrEnum):
    """What an order suffers: a `busy` provider, one that `refused` it or was `silent`, a `bug` in the mailer, or nothing."""

    GOOD = "good"
    BUSY = "busy"
    REFUSED = "refused"
    BUG = "bug"
    SILENT = "silent"


class Faults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is wrong in one process.

    TOWPATH_FAULTS_BUSY        share of the orders whose payment the provider is too busy for, one to three times
    TOWPATH_FAULTS_REFUSED     share of the orders whose payment it refuses to look at, until it is mended
    TOWPATH_FAULTS_AWAY_AFTER  how many payments the provider takes before it is away; 0: it stays
    TOWPATH_FAULTS_AWAY_FOR    for how many seconds
    TOWPATH_FAULTS_SILENT      orders (numbers, separated by commas) whose payment it does not answer at first
    TOWPATH_FAULTS_SILENT_FOR  for how many seconds
    TOWPATH_FAULTS_BUG         share of the orders whose letter the mailer breaks on, until it is mended
    TOWPATH_FAULTS_MENDED      a file: where it exists, what is to be mended is mended
    """

    busy: float = 0.0
    refused: float = 0.0
    away_after: int = 0
    away_for: float = 10.0
    bug: float = 0.0
    silent: str = ""
    silent_for: float = 10.0
    mended: str = ""

    @classmethod
    def load(cls, settings: Settings) -> Self | None:
        """The faults in the settings, or None without any. Raises `SetupError` for what makes no sense."""
        given = {name.removeprefix(_OWN): text for name, text in settings.variables.items() if name.startswith(_OWN)}
        if not given:
            return None
        try:
            faults = msgspec.convert(given, cls, strict=False)
        except msgspec.ValidationError as error:
            raise _senseless(str(error)) from None
        shares, times = (faults.busy, faults.refused, faults.bug), (faults.away_for, faults.silent_for)
        if not all(0 <= share <= 1 for share in shares) or sum(shares) > 1 or not all(seconds >= 0 for seconds in times):
            raise _senseless("shares are from 0 to 1 and at most 1 together, and seconds are not below 0")
        return faults

    def variables(self) -> dict[str, str]:
        """The environment that `load` makes these faults of."""
        return {f"{PREFIX}{_OWN}{name}".upper(): str(value) for name, value in msgspec.structs.asdict(self).items()}

    def fate(self, order_id: str) -> Fate:
        """What befalls this order at the ports that it comes to."""
        number = _number("fate", order_id) / 2**64
        for fate, share in ((Fate.BUSY, self.busy), (Fate.REFUSED, self.refused), (Fate.BUG, self.bug)):
            if number < share:
                return fate
            number -= share
        return Fate.SILENT if order_id in self.silent.split(",") else Fate.GOOD

    def times_busy(self, order_id: str) -> int:
        """How often the provider is too busy for an order of that fate: once to three times."""
        return 1 + _number("busy", order_id) % 3


class Troubles:
    """Faults at work. Each method is called at its port before anything is done for an order, and raises what is wrong."""

    def __init__(self, faults: Faults, clock: Callable[[], float] = time.monotonic) -> None:
        self._faults = faults
        self._clock = clock
        self._asked: Counter[str] = Counter()
        self._taken = 0
        self._back = 0.0

    def at_provider(self, order_id: str) -> None:
        """Raises `Unavailable`, `Retry` or `Reject`."""
        faults = self._faults
        if self._taken == faults.away_after and faults.away_after:
            self._back = self._clock() + faults.away_for
            self._taken += 1
        if self._clock() < self._back:
            raise Unavailable("psp")
        match faults.fate(order_id):
            case Fate.BUSY if self._asked[order_id] < faults.times_busy(order_id):
                self._asked[order_id] += 1
                raise Retry("the payment provider is busy")
            case Fate.SILENT if not self._asked[order_id]:
                self._asked[order_id] += 1
                raise Retry("the payment provider is silent", after=faults.silent_for)
            case Fate.REFUSED if not self._mended:
                raise Reject("the payment provider refuses the request: our account may not charge this card")
        self._taken += 1

    def at_mailer(self, order_id: str) -> None:
        """Raises what nobody expects."""
        if self._faults.fate(order_id) is Fate.BUG and not self._mended:
            raise KeyError("salutation")

    @property
    def _mended(self) -> bool:
        return bool(self._faults.mended) and Path(self._faults.mended).exists()


def _number(salt: str, order_id: str) -> int:
    return int.from_bytes(sha256(f"{salt} {order_id}".encode()).digest()[:8])


def _senseless(what: str) -> SetupError:
    return SetupError(what, where=f"{PREFIX}{_OWN.upper()}*", fix="see topologies/orders/faults.py for what there is")
