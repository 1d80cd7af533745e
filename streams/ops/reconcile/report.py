"""The report for people: one HTML file with totals, a picture of the flow, and what differs.

The one rule: it says first whether all is well, and then what to do where it is not.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from typing import Final

from streams.books import Difference
from streams.ops.page import Page
from streams.ops.reconcile.findings import Result
from streams.record import event_info
from streams.topology import Topology

_ROW: Final = 22  # pixels of one topic's line
_WIDE: Final = 900


def report(result: Result, topology: Topology) -> str:
    """The page."""
    page = Page(f"Reconciliation of {result.topology}", f"as of {when(result.taken_at)}")
    found = len(result.differences) + result.unlisted
    waiting = sum(each.count for each in result.open)
    page.figures(
        [
            ("differences", f"{found:,}", "bad" if found else "good"),
            ("events", f"{sum(result.counts.values()):,}", ""),
            ("receipts", f"{result.receipts:,}", ""),
            ("on their way", f"{waiting:,}", ""),
            ("not checkable", f"{sum(result.unknown.values()):,}", ""),
        ]
    )
    page.heading("Differences")
    if found:
        page.table(
            ("kind", "where", "what", "ours", "theirs", "to repair it", "when"), [row(each) for each in result.differences]
        )
        if result.unlisted:
            page.words(f"{result.unlisted:,} more are not listed.")
    else:
        page.words(
            "None: whatever was consumed has its outputs, its parked record, its case, or a receipt that there is nothing."
        )
    page.heading("The flow")
    page.picture(picture(result, topology))
    if result.open:
        page.heading("On their way")
        page.table(
            ("stage", "state", "records", "oldest"),
            [(o.stage, o.state, o.count, when(o.oldest) if o.oldest else "") for o in result.open],
        )
    if result.unknown:
        page.heading("Not checkable")
        page.table(("why", "how many"), list(result.unknown.items()))
    return page.html


def row(difference: Difference) -> Sequence[str]:
    """A difference in words: kind, where, what, both sides, the repair, the time."""
    at = when(difference.at) if difference.at is not None else ""
    return (
        difference.kind,
        difference.where,
        " ".join(difference.ids),
        difference.ours,
        difference.theirs,
        difference.repair,
        at,
    )


def when(millis: int) -> str:
    """A time in ISO 8601."""
    return datetime.fromtimestamp(millis / 1000, UTC).isoformat(timespec="seconds")


def picture(result: Result, topology: Topology) -> str:
    """Each stage with what it consumed on its left and what it emitted on its right, as an SVG."""
    parts, top = list[str](), 10
    middle = _WIDE // 2
    for stage in topology.stages:
        ins = [(topic, result.consumed.get(stage.name, {}).get(topic, 0)) for topic in stage.topics]
        outs = [(topic := event_info(cls).topic, result.emitted.get(stage.name, {}).get(topic, 0)) for cls in stage.emits]
        tall = _ROW * max(len(ins), len(outs), 1)
        center = top + tall / 2
        parts.append(
            f'<rect x="{middle - 70}" y="{center - 14}" width="140" height="28" rx="6" fill="none" stroke="currentColor"/>'
        )
        parts.append(f'<text x="{middle}" y="{center + 5}" text-anchor="middle" font-weight="600">{escape(stage.name)}</text>')
        for side, lines in ((-1, ins), (1, outs)):
            for number, (topic, count) in enumerate(lines):
                y = top + _ROW * number + _ROW / 2
                end, near = middle + side * 170, middle + side * 70
                anchor = "end" if side < 0 else "start"
                parts.append(f'<path d="M{end} {y} L{near} {center}" stroke="currentColor" opacity=".35"/>')
                bold = f'<tspan font-weight="600">{count:,}</tspan>'
                words = f"{topic} &#160; {bold}" if side < 0 else f"{bold} &#160; {topic}"
                parts.append(f'<text x="{end + side * 6}" y="{y + 5}" text-anchor="{anchor}">{words}</text>')
        top += tall + 24
    style = 'style="max-width:100%;font:13px system-ui,sans-serif" fill="currentColor"'
    head = f'role="img" aria-label="what each stage consumed and emitted" viewBox="0 0 {_WIDE} {top}"'
    return f"<svg {head} {style}>{''.join(parts)}</svg>"
