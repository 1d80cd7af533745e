"""The payment provider's statement against the payments that the flow has published.

The one rule: three ways by payment and order. A line without an event, an event without a line, and each that says otherwise.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from streams.books import Difference, Fact
from streams.errors import SetupError
from topologies.orders.money import LARGEST

SOURCE: Final = "statement"
DAYS: Final = "\0days"
"""The key under which the days are that statements cover: whole ones, UTC."""
_DAY: Final = 86_400_000
_LATE: Final = 3_600_000  # milliseconds between line and event that are no matter: an answer may be lost and asked for later
_SETTLED: Final = _DAY  # milliseconds that the word of a settlement may take
_ASK: Final = "look at the order with `towpath order`, then ask the provider"

Row = tuple[str, int, tuple[str | int | bool | None, ...]]


def lines(paths: Sequence[Path]) -> Iterator[Row]:
    """The lines of statements by order: number, kind, payment, amount in minor units, currency. Raises `SetupError`."""
    days: set[int] = set()
    for path in paths:
        try:
            with path.open(newline="", encoding="utf-8") as file:
                for number, row in enumerate(csv.DictReader(file), 2):
                    try:
                        at = int(datetime.fromisoformat(row["at"]).astimezone(UTC).timestamp() * 1000)
                        minor = int(row["amount_minor"])
                        values = (row["number"], row["kind"], row["payment_id"], minor, row["currency"])
                        order = row["order_id"]
                        if abs(minor) > LARGEST or "\0" in order:
                            raise ValueError("an amount or an order number that there cannot be")
                    except (KeyError, TypeError, ValueError, OverflowError) as error:
                        what = f"no line of a statement: {error!r}"
                        raise SetupError(what, where=f"{path}:{number}", fix="give it as the provider made it") from None
                    days.add(at // _DAY)
                    yield order, at, values
        except (OSError, UnicodeError, csv.Error) as error:
            raise SetupError(f"cannot read the statement: {error}", where=str(path), fix="name a CSV file") from None
    yield from ((DAYS, 0, (day,)) for day in sorted(days))


def compare(
    order: str, published: dict[str, list[Fact]], stated: list[Fact], days: set[int], *, until: int, whole: bool
) -> Iterator[Difference]:
    """What differs for one order. `published` has the facts (payment, currency, amount) by kind of line.

    Lines from `until` on (milliseconds since the epoch) may be of payments that are still on their way. Only if the topics
    are `whole` is a line without an event an extra one.
    """
    for kind, events in published.items():
        of = {str(fact.values[0]): fact for fact in events}
        told: dict[str, list[Fact]] = {}
        for line in stated:
            if line.values[1] == kind:
                told.setdefault(str(line.values[2]), []).append(line)
        for payment, fact in of.items():
            yield from _one(order, kind, payment, fact, told.pop(payment, []), days)
        if whole:
            for payment, found in told.items():
                if found[0].at < until:
                    ours, theirs = f"no {kind} of it was published", _shown(found[0])
                    yield Difference(f"{kind}-extra", SOURCE, (payment, order), ours, theirs, _ASK, found[0].at)


def _one(order: str, kind: str, payment: str, fact: Fact, found: list[Fact], days: set[int]) -> Iterator[Difference]:
    ids = (payment, order)
    _, currency, amount = fact.values
    ours = f"{amount} {currency}"
    if not found:
        covered = {(fact.at + step) // _DAY for step in (-_LATE, 0, _LATE)}
        if covered <= days:
            yield Difference(f"{kind}-missing", SOURCE, ids, ours, "no such line", _ASK, fact.at)
        return
    line = found[0]
    if len(found) > 1:
        numbers = ", ".join(str(each.values[0]) for each in found)
        yield Difference(f"{kind}-doubled", SOURCE, ids, f"{ours}, once", f"lines {numbers}", _ASK, line.at)
    if line.values[3] != amount:
        yield Difference(f"{kind}-amount", SOURCE, ids, ours, _shown(line), _ASK, line.at)
    if line.values[4] != currency:
        yield Difference(f"{kind}-currency", SOURCE, ids, ours, _shown(line), _ASK, line.at)
    if abs(line.at - fact.at) > _LATE:
        yield Difference(f"{kind}-timing", SOURCE, ids, f"published at {_when(fact.at)}", f"at {_when(line.at)}", _ASK, line.at)


def status(order: str, failed: Iterable[Fact], stated: list[Fact], captured: bool) -> Iterator[Difference]:
    """A payment that we were told has failed, and that the statement has as taken."""
    taken = [line for line in stated if line.values[1] == "capture"]
    if taken and not captured:
        for fact in failed:
            ids = (str(taken[0].values[2]), order)
            yield Difference("capture-status", SOURCE, ids, f"it failed: {fact.values[0]}", _shown(taken[0]), _ASK, fact.at)


def settled(order: str, accounts: Iterable[Fact], stated: list[Fact], now: int) -> Iterator[Difference]:
    """Settlements on the statement against those on our books. Accounts: payment, currency, captured, refunded, settled."""
    paid = {str(line.values[2]): line for line in stated if line.values[1] == "settle"}
    for account in accounts:
        line = paid.get(str(account.values[0]))
        ours = account.values[4]
        if line is None or ours == line.values[3] or (ours is None and line.at > now - _SETTLED):
            continue
        repair = "send the provider's webhook again" if ours is None else _ASK
        ids = (str(account.values[0]), order)
        yield Difference("settle-amount", SOURCE, ids, f"{ours or 'nothing'} settled", _shown(line), repair, line.at)


def _shown(line: Fact) -> str:
    number, kind, _, amount, currency = line.values
    return f"line {number}: {kind} {amount} {currency}"


def _when(millis: int) -> str:
    return datetime.fromtimestamp(millis / 1000, UTC).isoformat(timespec="seconds")
