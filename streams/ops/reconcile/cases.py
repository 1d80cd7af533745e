"""Dead letters, cases and parked records: none without the other, and as many as the receipts say.

The one rule: what operators did is in the cases' decisions, and counts as well.
"""

from collections import Counter
from typing import Final

import msgspec

from streams.ops.reconcile.findings import Result
from streams.ops.reconcile.ledger import Ledger
from streams.receipts import Receipt

_REPAIR: Final = "find who wrote to the retry topic; replay the stage with --emit missing"
_decode: Final = msgspec.msgpack.Decoder(Receipt).decode


def check_cases(ledger: Ledger, result: Result) -> None:
    """All of it."""
    sql, stages = ledger.sql, ledger.stages
    without = "SELECT stage, cas, id, at FROM letter l WHERE NOT EXISTS (SELECT 1 FROM cas c WHERE c.cas = l.cas)"
    for stage, case, known, at in sql.execute(without).fetchall():
        sides = {"ours": "a dead letter", "theirs": f"no case {case}"}
        result.add("case-missing", stages[stage], (known,), **sides, repair="open it again with `towpath cases import`", at=at)
    lone = "SELECT cas, stage FROM cas c WHERE state = 'open' AND NOT EXISTS (SELECT 1 FROM letter l WHERE l.cas = c.cas)"
    for case, stage in sql.execute(lone).fetchall():
        sides = {"ours": "an open case", "theirs": "no dead letter"}
        name = stages[stage] if stage is not None else ""
        result.add(
            "letter-missing",
            name,
            (case,),
            **sides,
            repair="it cannot be redriven: dismiss it, after a look at its event",
            at=None,
        )
    if ledger.complete:
        for number in range(len(stages)):
            _check_parked(ledger, result, number)


def _check_parked(ledger: Ledger, result: Result, stage: int) -> None:
    """What came to the retry topic and did not leave it is there. Only where every receipt is, and nothing moved meanwhile."""
    sql = ledger.sql
    for doubt in (
        "SELECT 1 FROM receipt WHERE stage = ? AND tail",
        "SELECT 1 FROM hole WHERE stage = ?",
        "SELECT 1 FROM twice WHERE stage = ?",
    ):
        if sql.execute(doubt, (stage,)).fetchone():
            return
    if any(d.kind.startswith("receipt-") and d.where.startswith(ledger.stages[stage]) for d in result.differences):
        return
    expected, first = 0, True
    for (body,) in sql.execute("SELECT DISTINCT body FROM receipt WHERE stage = ?", (stage,)):
        receipt = _decode(body)
        expected += receipt.parked_in + receipt.timers - receipt.parked_out
        first = False
    if first:
        return
    hold = ledger.topology.stages[stage].after_dead == "hold"
    told: Counter[str] = Counter()
    for (body,) in sql.execute("SELECT body FROM cas WHERE stage = ?", (stage,)):
        decisions = msgspec.msgpack.decode(body)
        told.update(decisions)
        if hold and "imported" in decisions:
            return
    expected += -told["dismissed"] if hold else told["redriven"]
    (there,) = sql.execute("SELECT count(*) FROM parked WHERE stage = ?", (stage,)).fetchone()
    if there != expected:
        ours, theirs = f"{expected:,} records wait, by receipts and cases", f"{there:,} are on the retry topic"
        result.add("parked", ledger.stages[stage], (), ours=ours, theirs=theirs, repair=_REPAIR, at=None)
