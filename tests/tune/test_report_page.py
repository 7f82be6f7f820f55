"""The page of the report: what is data never becomes markup, and nothing is loaded."""

from __future__ import annotations

import json
import re

import plotly.graph_objects as go

from tune.report.page import (
    figure_html,
    note_html,
    page_html,
    section_html,
    table_html,
    text_html,
)

HOSTILE = '</script><img src=x onerror="alert(1)">&'


def spec(figure: str) -> dict:
    found = re.search(r'<script type="application/json">(.*?)</script>', figure)
    assert found
    return json.loads(found[1])


def test_a_figure_keeps_its_data_and_none_of_it_is_markup() -> None:
    figure = go.Figure(go.Scatter(x=[HOSTILE, "β"], y=[1.5, float("nan")], name=HOSTILE))
    html = figure_html(figure.update_layout(xaxis_title=HOSTILE), HOSTILE)
    assert "<img" not in html
    assert html.count("</script>") == 1
    found = spec(html)
    assert found["data"][0]["x"] == [HOSTILE, "β"]
    assert found["data"][0]["y"] == [1.5, None]
    assert "template" not in found["layout"]


def test_a_figure_is_as_wide_as_its_place_or_its_own_width() -> None:
    assert 'style="height:320px"' in figure_html(go.Figure())
    html = figure_html(go.Figure(layout={"height": 100, "width": 200}))
    assert 'style="height:100px;max-width:200px"' in html
    assert spec(html)["layout"] == {}


def test_tables_and_texts_are_escaped() -> None:
    for html in (
        table_html([HOSTILE, HOSTILE], [[HOSTILE, HOSTILE]]),
        text_html(HOSTILE),
        note_html(HOSTILE),
        section_html(HOSTILE),
    ):
        assert "<img" not in html
        assert "&lt;img" in html


def test_columns_of_amounts_stand_to_the_right() -> None:
    rows = [["a", 1234, 0.5, "1 min 02 s", "96"], ["b", 1, float("nan"), "3.0 s", "0 to 1"]]
    html = table_html(["", "n", "x", "time", "range"], rows)
    for cell in ("1,234", "0.5000", "–", "1 min 02 s"):
        assert f'<td class="amount">{cell}</td>' in html
    assert "<td>96</td><" in html
    assert html.count('scope="col" class="amount"') == 3


def test_the_page_loads_nothing_and_lists_its_sections() -> None:
    html = page_html("results <1>", "lead", [section_html("What & why"), section_html("Cost")])
    own = re.sub(r"<script nonce.*?</script>", "", html, flags=re.DOTALL)  # less plotly.js
    assert not re.search(r"https?://|<link|<iframe| src=", own)
    assert "<title>results &lt;1&gt;</title>" in own
    assert re.findall(r'<a href="#([\w-]+)">(.*?)</a>', own) == [
        ("what-why", "What &amp; why"), ("cost", "Cost"),
    ]  # fmt: skip
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', own)
    (nonce,) = set(re.findall(r'<script nonce="([^"]+)"', html))
    assert policy.startswith("default-src 'none'")
    assert f"script-src 'nonce-{nonce}'" in policy
    assert nonce not in page_html("", "", [])
