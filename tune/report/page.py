"""HTML for the report: figures, tables, sections, the page. Everything that is data is escaped.

Colours of a figure are those of report.css, such as `var(--accent)`: report.js draws it in what
they stand for, light or dark.
"""

from __future__ import annotations

import html
import math
import re
import secrets
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any

import plotly.graph_objects as go
from plotly.io.json import to_json_plotly
from plotly.offline import get_plotlyjs

HEIGHT = 320  # pixels of a figure that names none
_AMOUNT = re.compile(r"[+-]?\d[\d,.]*( ± [\d.]+| (h|min|s)\b.*)?|–")  # a number or a time


def escaped(value: Any) -> str:
    return html.escape(str(value))


def figure_html(figure: go.Figure, caption: str = "") -> str:
    """The figure, to be drawn by the page; `caption` says in plain text what there is to see.

    It is as wide as its place; a width that it names is the most that it takes.
    """
    spec = figure.to_plotly_json()
    spec["layout"].pop("template", None)  # the page has its own
    height = int(spec["layout"].pop("height", HEIGHT))
    width = spec["layout"].pop("width", None)
    size = f"height:{height}px" + (f";max-width:{int(width)}px" if width else "")
    data = to_json_plotly(spec, engine="json")  # which writes < as \u003c
    below = f"<figcaption>{escaped(caption)}</figcaption>" if caption else ""
    return (
        f'<figure><div class="plot" style="{size}"></div>'
        f'<script type="application/json">{data}</script>{below}</figure>'
    )


def table_html(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table of one row or more, named by its first column; amounts stand to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    columns = zip(*cells, strict=True)
    kinds = [' class="amount"' if all(map(_AMOUNT.fullmatch, column)) else "" for column in columns]
    kinds[:1] = [""]
    head = "".join(
        f'<th scope="col"{kind}>{escaped(name)}</th>'
        for name, kind in zip(header, kinds, strict=True)
    )
    body = "".join(
        f'<tr><th scope="row">{escaped(first)}</th>'
        + "".join(
            f"<td{kind}>{escaped(cell)}</td>" for cell, kind in zip(rest, kinds[1:], strict=True)
        )
        + "</tr>"
        for first, *rest in cells
    )
    # A wide table scrolls by itself, not the page; by keyboard too.
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escaped(header[0])}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def section_html(title: str, *parts: str) -> str:
    """A section of the page; `parts` are HTML."""
    name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    return f'<section id="{name}"><h2>{escaped(title)}</h2>{"".join(parts)}</section>'


def text_html(text: str) -> str:
    return f"<p>{escaped(text)}</p>"


def note_html(text: str) -> str:
    """A paragraph that warns."""
    return f'<p class="note">{escaped(text)}</p>'


def page_html(title: str, lead: str, sections: Iterable[str]) -> str:
    """The whole page: nothing is loaded from anywhere, and no script runs but the page's own."""
    body = "".join(sections)
    contents = "".join(
        f'<li><a href="#{name}">{heading}</a></li>'
        for name, heading in re.findall(r'<section id="([\w-]+)"><h2>(.*?)</h2>', body)
    )
    nonce = secrets.token_urlsafe(16)
    allowed = f"img-src data:; style-src 'unsafe-inline'; script-src 'nonce-{nonce}'"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; {allowed}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escaped(title)}</title>
<style>{_asset("report.css")}</style>
</head>
<body>
<header><h1>{escaped(title)}</h1><p>{escaped(lead)}</p>
<nav aria-label="Contents"><ol>{contents}</ol></nav></header>
<main>{body}</main>
<noscript><p class="note">The figures need JavaScript.</p></noscript>
<script nonce="{nonce}">{get_plotlyjs()}</script>
<script nonce="{nonce}">{_asset("report.js")}</script>
</body>
</html>
"""


def _asset(name: str) -> str:
    return (resources.files("tune.report") / name).read_text(encoding="utf-8")
