"""The networks side by side: plain, bidirectional, dropout, zero_state, max_pooling, improved."""

from __future__ import annotations

from statistics import median
from typing import Any

import plotly.graph_objects as go

from tune.report.page import figure_html, section_html, table_html
from tune.report.record import Record
from tune.report.slices import spread
from tune.report.wording import metric_title, outcome

Found = dict[str, list[tuple[int, dict[str, Any], bool]]]


def section(record: Record) -> str:
    found = by_variant(record)
    rows = [
        (
            variant,
            len(trials),
            sum(ended for _, _, ended in trials),
            trials[0][1]["objective"],
            float(median(report["objective"] for _, report, _ in trials)),
            trials[0][0],
        )
        for variant, trials in found.items()
    ]
    header = ("network", "trials", "to the end", "best", "median", "best trial")
    caption = "The best value of each trial."
    if len({len(trials) for trials in found.values()}) > 1:
        caption += (
            " The networks were not tried equally often, and the best of many trials is not to be "
            "held against the best of few."
        )
    parts = (figure_html(_strips(record, found), caption), table_html(header, rows))
    return section_html("The networks side by side", *parts)


def by_variant(record: Record) -> Found:
    """(number, best report, whether it trained to its end) of each variant's trials, best first."""
    found: Found = {}
    for trial, report in record.ranked:
        variant = record.space.config(trial.params).variant
        ended = outcome(trial) == "trained to the end"
        found.setdefault(variant, []).append((trial.number, report, ended))
    return found


def _strips(record: Record, found: Found) -> go.Figure:
    figure = go.Figure()
    for ended, name, marker in (
        (False, "stopped early", {"color": "var(--faint)", "symbol": "circle-open", "size": 6}),
        (True, "trained to the end", {"color": "var(--accent)", "opacity": 0.6, "size": 7}),
    ):
        mine = [
            (report["objective"], row + spread(number), number)
            for row, trials in enumerate(found.values())
            for number, report, its_end in trials
            if its_end == ended
        ]
        if mine:
            x, y, numbers = zip(*mine, strict=True)
            figure.add_scatter(
                x=x, y=y, customdata=numbers, mode="markers", marker=marker, name=name,
                hovertemplate="trial %{customdata}: %{x:.4f}<extra></extra>",
            )  # fmt: skip
    values = [report["objective"] for _, report in record.ranked]
    figure.update_layout(
        height=100 + 46 * len(found),
        xaxis={
            "title": {"text": metric_title(record.objective)},
            "range": record.value_range(values),
        },
        yaxis={
            "tickvals": list(range(len(found))),
            "ticktext": list(found),
            "range": [len(found) - 0.4, -0.6],
            "showgrid": False,
        },
    )
    return figure
