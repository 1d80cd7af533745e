"""What the demo shows: a live table on a terminal, a line every few seconds in a pipe, and the summary.

The one rule: it shows what the watch has counted and computes nothing else.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from streams.errors import TowpathError
from topologies.orders.demo.watch import Watch
from topologies.orders.events import Closing, Ending

_EVERY: Final = 3.0  # seconds between two plain lines
_WORDS: Final = (Closing.CONFIRMED, Ending.REJECTED, Closing.DECLINED, Closing.EXPIRED, Closing.CANCELLED)


class View:
    """Shows a watch while it is entered, with a `note` behind the counter."""

    def __init__(self, watch: Watch, note: Callable[[], str] = str) -> None:
        self._watch = watch
        self._note = note
        self._live = Live(console=Console(), auto_refresh=False) if sys.stdout.isatty() else None
        self._shown = time.monotonic()

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def show(self) -> None:
        """Bring the display up to date."""
        if self._live:
            self._live.update(Group(_table(self._watch), Text(self._counter(), style="bold")), refresh=True)
        elif time.monotonic() - self._shown >= _EVERY:
            self._shown = time.monotonic()
            stages = "; ".join(
                f"{one.stage} {one.consumed} in, {one.emitted} out, lag {one.lag}" for one in self._watch.progress
            )
            sys.stdout.write(f"{self._counter()}; {stages}\n")
            sys.stdout.flush()

    def _counter(self) -> str:
        return f"{len(self._watch.endings):,} of {self._watch.orders:,} orders at their end{self._note()}"


def summary(watch: Watch, foreign: int = 0) -> str:
    """How the orders ended and how long they took, in a few lines; `foreign` of the records submitted were no orders.

    Raises `TowpathError` if not every order has ended.
    """
    if watch.submitted - foreign != len(watch.endings):
        raise TowpathError(f"{watch.submitted - foreign:,} orders were submitted, {len(watch.endings):,} have ended")
    endings = Counter(ending for ending, _ in watch.endings.values())
    codes = Counter(watch.endings.values())
    lines = [f"{len(watch.endings):,} orders in {watch.seconds():.1f} s ({len(watch.endings) / watch.seconds():,.0f}/s)"]
    for word in _WORDS:
        reasons = [f"{code} {count:,}" for (of, code), count in codes.most_common() if of == word and code not in (None, word)]
        lines.append(f"  {word:<10}{endings[word]:>8,}  {', '.join(reasons)}".rstrip())
    if latencies := watch.latencies():
        p50, p99 = (latencies[int(share * (len(latencies) - 1))] for share in (0.5, 0.99))
        lines.append(f"submitted → captured: p50 {p50:,} ms, p99 {p99:,} ms")
    lines.append(f"notifications sent twice: {watch.repeated}")
    ends = " + ".join(f"{endings[word]:,} {word}" for word in _WORDS)
    lines.append(f"orders: {watch.submitted - foreign:,} submitted = {ends}")
    return "\n".join(lines) + "\n"


def _table(watch: Watch) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("stage")
    for title in ("consumed", "emitted", "lag", "per second"):
        table.add_column(title, justify="right", min_width=10)
    for one in watch.progress:
        table.add_row(one.stage, f"{one.consumed:,}", f"{one.emitted:,}", f"{one.lag:,}", f"{one.rate:,.0f}")
    return table
