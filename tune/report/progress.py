"""The best value so far, over the trials and over the time that the search took."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import plotly.graph_objects as go
from optuna.trial import TrialState

from tune.report.page import figure_html, section_html
from tune.report.record import Record
from tune.report.wording import metric_title, outcome
from tune.sittings import worked_until
from tune.space import Objective
from tune.study import reports_of

FEW = 10  # trials, up to which each has a tick
_MARKERS: dict[str, dict[str, Any]] = {
    "trained to the end": {"color": "var(--accent)", "opacity": 0.55},
    "stopped early": {"color": "var(--faint)", "symbol": "circle-open"},
    "under way": {"color": "var(--violet)", "symbol": "diamond-open"},
}


def section(record: Record) -> str:
    parts = [
        figure_html(over_trials(record), "Each trial's best report. The line is the best so far."),
        figure_html(
            over_time(record),
            "The same line over the time at work on the search: what lies between two sittings, "
            "and a confirmation, is left out.",
        ),
    ]
    return section_html("The best value", f'<div class="pair">{"".join(parts)}</div>')


def over_trials(record: Record) -> go.Figure:
    found = sorted(record.ranked, key=lambda pair: pair[0].number)
    figure = go.Figure()
    for name, marker in _MARKERS.items():
        mine = [(t.number, r["objective"]) for t, r in found if outcome(t) == name]
        if mine:
            x, y = zip(*mine, strict=True)
            figure.add_scatter(
                x=x,
                y=y,
                mode="markers",
                marker={"size": 7, **marker},
                name=name,
                hovertemplate="trial %{x}: %{y:.4f}<extra></extra>",
            )
    steps = best_so_far([(t.number, r["objective"]) for t, r in found], record.objective)
    figure.add_scatter(**_line(steps, found[-1][0].number))
    figure.update_layout(
        xaxis={
            "title": {"text": "trial"},
            "range": _whole(found[-1][0].number),
            **({"dtick": 1} if found[-1][0].number < FEW else {}),
        },
        yaxis=_value_axis(record, [r["objective"] for _, r in found]),
    )
    return figure


def over_time(record: Record) -> go.Figure:
    reports = [
        report
        for trial in record.trials
        if trial.state != TrialState.FAIL
        for report in reports_of(trial)
    ]
    worked = worked_until(record.search)
    events = sorted((worked(report) / 60, report["objective"]) for report in reports)
    steps = best_so_far(events, record.objective)
    figure = go.Figure()
    figure.add_scatter(**_line(steps, events[-1][0]), showlegend=False)
    figure.update_layout(
        xaxis={"title": {"text": "time at work (minutes)"}, "range": _whole(events[-1][0])},
        yaxis=_value_axis(record, [value for _, value in steps]),
    )
    return figure


def best_so_far(
    events: Iterable[tuple[float, float]], objective: Objective
) -> list[tuple[float, float]]:
    """Of (when, value) in order, those that bettered all before."""
    steps: list[tuple[float, float]] = []
    for when, value in events:
        if value == value and (not steps or objective.better(value, steps[-1][1])):
            steps.append((when, value))
    return steps


def _line(steps: list[tuple[float, float]], end: float) -> dict[str, Any]:
    last = steps[-1][1]
    return {
        "x": [when for when, _ in steps] + [end],
        "y": [value for _, value in steps] + [last],
        "mode": "lines",
        "line": {"shape": "hv", "color": "var(--warm)", "width": 2.5},
        "name": "best so far",
        "hovertemplate": "%{y:.4f}<extra></extra>",
    }


def _whole(end: float) -> list[float]:
    """From 0 to `end`, with room for the points at both ends."""
    margin = 0.03 * end or 0.5
    return [-margin, end + margin]


def _value_axis(record: Record, values: list[float]) -> dict[str, Any]:
    return {"title": {"text": metric_title(record.objective)}, "range": record.value_range(values)}
