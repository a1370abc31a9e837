"""A page of HTML that needs nothing else: no script, no request, no other file.

What comes from data goes through `text` or `name`, which escape it; everything else
takes and gives HTML.
"""

import html
import re
from collections.abc import Sequence

from l2d_jax.table.wording import printable, shorten

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_NAME_WIDTH = 80
_SHORT = 12
"""Rows of a table that is kept on one page of paper."""
_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: #1a1a1a; line-height: 1.5;
  font-family: system-ui, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif; }
header, main, footer { max-width: 64rem; margin: 0 auto; padding: 0 1rem; }
header { padding-top: 1.5rem; }
h1 { font-size: 1.2rem; font-weight: 600; margin: 0; color: #4a4a4a; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 0.5rem; padding-top: 0.75rem;
  border-top: 1px solid #c4c4c4; }
h1, h2, p, li, summary, caption { overflow-wrap: anywhere; }
p, ul { margin: 0.5rem 0; max-width: 44rem; }
ul { padding-left: 1.25rem; }
.headline { font-size: 1.6rem; line-height: 1.3; font-weight: 700; margin: 0.5rem 0; }
.warning { border-left: 4px solid #a8400b; padding-left: 0.75rem; }
.table { overflow-x: auto; margin: 1rem 0; }
.table:focus-visible, summary:focus-visible { outline: 3px solid #0b4f8a;
  outline-offset: 2px; }
table { border-collapse: collapse; width: 100%; font-size: 0.875rem;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: 0.4rem; }
th, td { text-align: right; vertical-align: top; padding: 0.35rem 0.4rem;
  border-bottom: 1px solid #d9d9d9; }
thead th { vertical-align: bottom; border-bottom: 2px solid #444; }
th:first-child, .words { text-align: left; }
tbody th { font-weight: 600; min-width: 8rem; max-width: 16rem;
  overflow-wrap: anywhere; }
td { white-space: nowrap; }
td.words { min-width: 6rem; white-space: normal; overflow-wrap: anywhere; }
.marked > * { background: #eef3f8; }
small { display: block; font-size: 0.8125rem; font-weight: 400; color: #4a4a4a; }
.mark { display: inline-block; font-size: 0.75rem; font-weight: 600;
  border: 1px solid #1a1a1a; border-radius: 0.2rem; padding: 0 0.3rem; }
figure { margin: 1rem 0; max-width: 32rem; break-inside: avoid; }
figcaption { font-weight: 600; font-size: 0.875rem; }
svg { display: block; width: 100%; height: auto; }
svg * { stroke-linejoin: round; stroke-linecap: butt; }
summary { cursor: pointer; padding: 0.5rem 0; font-weight: 600; }
footer { margin-top: 2.5rem; padding-bottom: 2rem; font-size: 0.875rem;
  color: #4a4a4a; }
@page { size: A4; margin: 15mm 14mm; }
@media print {
  body { font-size: 10pt; print-color-adjust: exact;
    -webkit-print-color-adjust: exact; }
  header, main, footer { max-width: none; padding: 0; }
  .table { overflow: visible; }
  table { font-size: 7.5pt; }
  small, .mark { font-size: 7pt; }
  th, td { padding: 1mm 1.2mm; }
  details :is(th, td) { padding: 0.3mm 1.2mm; line-height: 1.25; }
  tbody th { min-width: 22mm; max-width: 45mm; }
  thead { display: table-header-group; }
  tr, figure, li { break-inside: avoid; }
  .unprinted { display: none; }
  .short, section > p { break-inside: avoid; }
  section > p { break-after: avoid; }
  h2, caption, summary { break-after: avoid; }
  figure { max-width: 105mm; }
  details::details-content { display: block; content-visibility: visible;
    block-size: auto; }
}
"""


def document(title: str, header: str, main: str, footer: str) -> str:
    """The whole file.

    Args:
      title: plain text.
      header: HTML, as the two that follow.
      main: of the sections.
      footer: what stands below.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Else a browser asks the place it has the page from for one.
        '<link rel="icon" href="data:,">\n'
        f"<title>{text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<header>\n{header}\n</header>\n<main>\n{main}\n</main>\n"
        f"<footer>\n{footer}\n</footer>\n</body>\n</html>\n"
    )


def text(value: str) -> str:
    """Plain text as HTML, which breaks no line between a number and its percent."""
    return re.sub(r"(?<=\d) %", "&nbsp;%", html.escape(printable(value)))


def name(value: str) -> str:
    """A name from the data: of any script and direction, cut where it is very long."""
    shown = shorten(value, _NAME_WIDTH)
    return f"<bdi>{html.escape(shown if shown.strip() else '(blank)')}</bdi>"


def paragraph(content: str, style: str | None = None) -> str:
    """A paragraph of HTML, of a class of the style."""
    return f"<p{_class(style)}>{content}</p>"


def section(key: str, heading: str, *parts: str) -> str:
    """A part of the page below its heading; parts that are empty are left out."""
    body = "\n".join(part for part in parts if part)
    return (
        f'<section aria-labelledby="{key}">\n<h2 id="{key}">{heading}</h2>\n'
        f"{body}\n</section>"
    )


def table(
    key: str,
    caption: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    marked: Sequence[bool] | None = None,
    words: Sequence[int] = (),
) -> str:
    """A table that scrolls by itself, also by keyboard, where it is wider than a page.

    Args:
      key: identifier of its caption, distinct in the page.
      caption: HTML.
      head: of the columns, HTML.
      rows: cells, HTML; the first of each is the row's head.
      marked: rows that stand out.
      words: columns that hold words rather than numbers.
    """
    marks = [False] * len(rows) if marked is None else marked
    size = "table short" if len(rows) <= _SHORT else "table"
    kinds = [_class("words" if i in words else None) for i in range(len(head))]
    top = "".join(
        f'<th scope="col"{kind}>{cell}</th>'
        for cell, kind in zip(head, kinds, strict=True)
    )
    body = "\n".join(
        f"<tr{_class('marked' if mark else None)}>"
        f'<th scope="row">{row[0]}</th>'
        + "".join(
            f"<td{kind}>{cell}</td>"
            for cell, kind in zip(row[1:], kinds[1:], strict=True)
        )
        + "</tr>"
        for row, mark in zip(rows, marks, strict=True)
    )
    return (
        f'<div class="{size}" role="region" aria-labelledby="{key}" tabindex="0">\n'
        "<table>\n"
        f'<caption id="{key}">{caption}</caption>\n'
        f"<thead><tr>{top}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>"
    )


def figure(drawing: str, caption: str) -> str:
    """A drawing with its caption below."""
    return f"<figure>\n{drawing}\n<figcaption>{caption}</figcaption>\n</figure>"


def more(summary: str, content: str, printed: bool = True) -> str:
    """What is shown when it is asked for, and in print too or never."""
    style = _class(None if printed else "unprinted")
    return f"<details{style}>\n<summary>{summary}</summary>\n{content}\n</details>"


def bullets(items: Sequence[str]) -> str:
    """A list of HTML."""
    return "<ul>\n" + "\n".join(f"<li>{item}</li>" for item in items) + "\n</ul>"


def _class(style: str | None) -> str:
    return f' class="{style}"' if style else ""
