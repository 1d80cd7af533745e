"""What became of hostile records, told from topics alone: dead letters, cases, and what customers were told.

The one rule: it reads what any client reads, with fastavro, and asks the product nothing.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from streams.record import Header
from tests.hostile.catalogue import MARK, Hostile
from tests.support.contracts import Contracts

_CONTRACTS: Final = Contracts(Path(__file__).parents[2] / "schemas")
_DEATHS: Final = ("undecodable", "reject", "retry")


class Letter(msgspec.Struct, frozen=True):
    """A dead letter, in its two parts."""

    stage: str
    verdict: str
    case: str
    key: bytes | None
    value: bytes | None
    headers: list[Header]


class Ends:
    """`letters` by stage; `told` and `cases` are the records of notifications.sent and of the cases' topic."""

    def __init__(self, letters: Mapping[str, Iterable[Any]], told: Iterable[Any], cases: Iterable[Any]) -> None:
        self.letters: dict[str, list[Letter]] = defaultdict(list)
        self.told: dict[str, list[str]] = defaultdict(list)
        self.endings: dict[str, str] = {}
        for stage, records in letters.items():
            for record in records:
                self._bury(stage, record)
        seen: set[bytes | None] = set()
        for record in told:
            value = _CONTRACTS.decode(record.value)
            self.endings[value["order_id"]] = value["ending"]
            known = next(value for name, value in record.headers if name == "id")
            if known not in seen:  # an event that comes again has its outputs again, under the ids that they had
                self.told[_mark(record)].append(value["code"] or "")
            seen.add(known)
        decoded = (_CONTRACTS.decode(record.value) for record in cases)
        self.cases: dict[str, Mapping[str, Any]] = {case["case_id"]: case for case in decoded}

    def _bury(self, stage: str, record: Any) -> None:
        headers = list(record.headers)
        ours = max(at for at, (name, _) in enumerate(headers) if name == "dead-origin")
        said = {name: (value or b"").decode() for name, value in headers[ours:]}
        letter = Letter(stage, said["dead-verdict"], said["dead-case"], record.key, record.value, headers[:ours])
        self.letters[_mark(record)].append(letter)

    def check(self, case: Hostile) -> None:
        """Whether it has ended as the catalogue says, and in no other way as well."""
        letters, told = self.letters[case.name], self.told[case.name]
        if case.end not in _DEATHS:
            assert letters == [], [self.cases[one.case] for one in letters]
            assert told == ([case.says] if case.end == "told" else [])
            return
        assert told == []
        (letter,) = letters
        assert (letter.stage, letter.verdict) == (case.stage, case.end), self.cases[letter.case]
        found = self.cases[letter.case]
        assert case.says in f"{found['error']}: {found['message']}"
        assert (found["state"], found["verdict"], found["key"]) == ("open", case.end, letter.key)
        if self._first_hand(case):  # byte for byte
            assert (letter.key, letter.value, letter.headers) == (case.key, case.value, case.marked)

    @staticmethod
    def _first_hand(case: Hostile) -> bool:
        """Whether it died where it was sent, so that its letter is itself."""
        return case.stage == "intake" or (case.end == "undecodable" and not case.topic.endswith(".retry"))


def _mark(record: Any) -> str:
    return next((value.decode() for name, value in reversed(record.headers) if name == MARK and value), "")
