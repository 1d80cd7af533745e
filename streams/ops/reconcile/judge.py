"""From what was collected to what does not add up.

The one rule: no I/O but the ledger's; whoever collects, from Kafka or from a list, gets the same judgement.
"""

from collections.abc import Mapping

from streams.ops.reconcile.cases import check_cases
from streams.ops.reconcile.chain import Chain, Committed
from streams.ops.reconcile.events import Events
from streams.ops.reconcile.findings import Result
from streams.ops.reconcile.ledger import Ledger


def judge(
    ledger: Ledger,
    now: int,
    *,
    keeps: Mapping[str, float] | None = None,
    before: Committed | None = None,
    after: Committed | None = None,
) -> Result:
    """Everything that differs.

    `now` (milliseconds since the epoch) and `keeps` (seconds, by topic) say what retention may
    have removed; `before` and `after` are the groups' offsets from before and after the reading.
    """
    result = Result(ledger.topology.name, now)
    ledger.sort()
    ledger.sql.execute("BEGIN")
    chain = Chain(ledger, result)
    chain.check(before or {}, after or {})
    Events(ledger, result, keeps or {}, now).check()
    check_cases(ledger, result)
    books = ledger.topology.books
    if books is not None:
        result.differences += books.check(ledger)
    return result
