"""Write HTML pages of one file: no script, nothing from a network, legible dark and light, wide and narrow."""

from __future__ import annotations

from html import escape
from typing import Sequence

from insightface_mx.base.errors import shorten

# Colours of lines that stand out from white and from nearly black, and dashes for who sees no colours.
COLOURS = ("#2a7fd4", "#d2691e", "#2a9d5c", "#a05ad0", "#d14b5a", "#12909c", "#8a7a1c", "#6b7a90")
DASHES = ("", "7 3", "2 2", "9 3 2 3")
_MAX_CELL = 300  # characters of a cell

_STYLE = """
:root { color-scheme: light dark; --text: #1a1c20; --back: #ffffff; --faint: #5c6370; --line: #c9ced6; --mark: #a8200d }
@media (prefers-color-scheme: dark) {
  :root { --text: #e4e6ea; --back: #16181d; --faint: #a0a7b4; --line: #414753; --mark: #ff9a85 }
}
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1rem; max-width: 80rem; color: var(--text); background: var(--back);
  font: 1rem/1.45 system-ui, sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.5rem } h2 { font-size: 1.25rem; border-top: 1px solid var(--line); padding-top: 1rem }
h3 { font-size: 1.05rem }
table { border-collapse: collapse; margin: .5rem 0 1rem; font-variant-numeric: tabular-nums; max-width: 100% }
caption { text-align: left; color: var(--faint); padding-bottom: .3rem }
th, td { text-align: left; vertical-align: top; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid var(--line) }
th { font-weight: 600; overflow-wrap: break-word } td { min-width: 5.3rem }
svg { display: block; width: 100%; height: auto; color: var(--text) }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1.5rem }
.pairs { display: flex; flex-wrap: wrap; gap: 1rem }
.pairs figure { width: 14rem; max-width: 100% }
.pairs img { width: 48%; height: auto; margin-right: 2%; float: left } .pairs .three img { width: 31% }
figure { margin: 0; min-width: 0 } figcaption { clear: both; color: var(--faint); font-size: .9rem }
.key { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; padding: 0; list-style: none }
.key svg { display: inline-block; width: 2.2rem; height: .8rem; margin-right: .4rem; vertical-align: middle }
.note { color: var(--faint) } .mark { color: var(--mark) }
@media (max-width: 50rem) {
  .wide, .wide tbody, .wide tr, .wide td, .wide caption { display: block } .wide thead { display: none }
  .wide tr { border-bottom: 1px solid var(--line); padding: .4rem 0 }
  .wide td { border: 0; min-width: 0; padding: .1rem 0; display: flex; gap: .5rem; justify-content: flex-start }
  .wide td::before { content: attr(data-label); color: var(--faint); flex: 0 0 42% }
}
"""


def page(title: str, body: str, refresh: int = 0) -> str:
    """Return a page.

    Args:
        title: Its title and first heading, plain text.
        body: The rest, HTML.
        refresh: Seconds after which a browser loads it again; 0: never.
    """
    again = f'<meta http-equiv="refresh" content="{refresh}">\n' if refresh else ""
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n{again}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<h1>{text(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def text(value: object) -> str:
    """Return any value as HTML shows it; control characters are escaped and the middle of a long text is left out."""
    return escape(shorten(value, _MAX_CELL))


def table(headings: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "") -> str:
    """Return a table of plain texts; on a narrow window the rows of three columns or more become lists.

    Args:
        headings: Of the columns.
        rows: A cell for each heading.
        caption: What the table shows; '': nothing is said.
    """
    head = "".join(f'<th scope="col">{text(heading)}</th>' for heading in headings)
    lines = [
        "<tr>"
        + "".join(f'<td data-label="{text(name)}">{text(cell)}</td>' for name, cell in zip(headings, row))
        + "</tr>"
        for row in rows
    ]
    title = f"<caption>{text(caption)}</caption>" if caption else ""
    body = "\n".join(lines)
    kind = "narrow" if len(headings) < 3 else "wide"
    return f'<table class="{kind}">{title}<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>\n'


def key(names: Sequence[str]) -> str:
    """Return the list that says which line belongs to which name, in the order of COLOURS and DASHES."""
    items = [
        f'<li><svg viewBox="0 0 36 10" role="img" aria-label="line of {text(name)}"><path d="M0 5H36" fill="none" '
        f'stroke="{colour_of(index)}" stroke-width="3" stroke-dasharray="{dashes_of(index)}"/></svg>{text(name)}</li>'
        for index, name in enumerate(names)
    ]
    return f'<ul class="key">{"".join(items)}</ul>\n'


def colour_of(index: int) -> str:
    """Return the colour of a line."""
    return COLOURS[index % len(COLOURS)]


def dashes_of(index: int) -> str:
    """Return the dashes of a line, as SVG writes them; '' for a solid one."""
    return DASHES[(index // len(COLOURS) + index) % len(DASHES)]
