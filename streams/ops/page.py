"""A page of HTML in one file: headings, words, figures and tables that one can filter; it needs no network and prints well.

The one rule: whatever comes from a record is text. Nothing of it is ever taken for markup.
"""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

_STYLE: Final = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881}
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem}
h1{font-size:1.6rem;margin:0}h2{font-size:1.15rem;margin:2rem 0 .5rem}p.sub{opacity:.7;margin:.2rem 0 1.5rem}
.figures{display:flex;flex-wrap:wrap;gap:.75rem;margin:1rem 0}
.figures div{border:1px solid var(--line);border-radius:.5rem;padding:.5rem 1rem;min-width:6rem}
.figures b{display:block;font-size:1.4rem;font-variant-numeric:tabular-nums}
.good b{color:#1a7f37}.bad b{color:#cf222e}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{border-bottom:1px solid var(--line);padding:.3rem .5rem;text-align:left;vertical-align:top;overflow-wrap:anywhere}
th{background:var(--soft)}td.number{text-align:right;font-variant-numeric:tabular-nums}
input.filter{font:inherit;padding:.3rem .5rem;margin:.3rem 0;width:20rem;max-width:100%}
code,pre{font:.85rem ui-monospace,monospace;white-space:pre-wrap}
@media print{input.filter{display:none}body{margin:0;max-width:none;font-size:10pt}tr,.figures div{break-inside:avoid}
thead{display:table-header-group}}
"""
_SCRIPT: Final = """
for(const box of document.querySelectorAll('input.filter')){const rows=[...box.nextElementSibling.tBodies[0].rows];
box.addEventListener('input',()=>{const words=box.value.toLowerCase().split(/\\s+/);
for(const row of rows){const text=row.textContent.toLowerCase();row.hidden=!words.every(word=>text.includes(word))}})}
"""


class Page:
    """Built from top to bottom, then asked for its `html`."""

    def __init__(self, title: str, subtitle: str = "") -> None:
        self._title = title
        self._parts = [f"<h1>{escape(title)}</h1><p class=sub>{escape(subtitle)}</p>"]

    def heading(self, text: str) -> None:
        """A new section."""
        self._parts.append(f"<h2>{escape(text)}</h2>")

    def words(self, text: str) -> None:
        """A paragraph."""
        self._parts.append(f"<p>{escape(text)}</p>")

    def picture(self, svg: str) -> None:
        """A drawing as SVG of our own making: it is put in as it is."""
        self._parts.append(svg)

    def figures(self, figures: Iterable[tuple[str, str, str]]) -> None:
        """Name, value and mood (`good`, `bad` or nothing) of what is to be seen first."""
        shown = "".join(
            f'<div class="{escape(mood)}"><b>{escape(value)}</b>{escape(name)}</div>' for name, value, mood in figures
        )
        self._parts.append(f"<div class=figures>{shown}</div>")

    def table(self, titles: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Rows that can be filtered by the words that they hold; numbers are set to the right."""
        head = "".join(f"<th>{escape(title)}" for title in titles)
        body = "".join(f"<tr>{''.join(map(_cell, row))}" for row in rows)
        self._parts.append(
            '<input class=filter type=search placeholder="filter by words" aria-label="filter the rows">'
            f"<table><thead><tr>{head}</thead><tbody>{body}</tbody></table>"
        )

    @property
    def html(self) -> str:
        """The whole page."""
        return (
            '<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">'
            f"<title>{escape(self._title)}</title><style>{_STYLE}</style>{''.join(self._parts)}<script>{_SCRIPT}</script></html>\n"
        )


def _cell(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"<td class=number>{value:,}"
    return f"<td>{escape(str(value))}"
