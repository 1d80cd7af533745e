"""The `towpath` command without receipts and metrics: a transaction says nothing of itself.

The one rule: nothing else differs. It is what receipts are measured against; nothing could be proven here.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from streams.cli import main
from streams.kafka.session import KafkaSession
from streams.receipts import Receipts
from streams.record import Output
from tests.bench import tallyless

_NONE: Final = Output("", None, None)
_commit: Final = KafkaSession.commit


def _silent(*_: Any) -> Output:
    return _NONE


def _without(self: KafkaSession, outputs: Sequence[Output], offsets: Mapping[tuple[str, int], int], metadata: str = "") -> None:
    _commit(self, outputs[:-1] if outputs and outputs[-1] is _NONE else outputs, offsets, metadata)


def do_without() -> None:
    """From here on."""
    Receipts.write = _silent  # type: ignore[method-assign,assignment]  # the whole point of this file
    KafkaSession.commit = _without  # type: ignore[method-assign]  # as above


if __name__ == "__main__":
    do_without()
    tallyless.do_without()
    main()
