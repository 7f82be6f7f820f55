"""The value over each parameter, one small plot each."""

from __future__ import annotations

import math
from itertools import islice
from typing import Any

import plotly.graph_objects as go
from optuna.trial import FrozenTrial

from tune.report.page import figure_html, section_html, text_html
from tune.report.record import Record
from tune.report.wording import metric_title, outcome, parameter_title, value_text
from tune.space import Parameter

NAMES = 24  # characters of all choices, up to which they stand beside each other
STEPS = 6  # values of a stepped parameter, up to which each has a tick
WIDE = 1000  # high / low, from which powers of ten are ticks enough
_SPREAD = 0.28  # of a category's width, to either side
_GOLDEN = 0.6180339887498949  # its multiples fill an interval evenly


def section(record: Record) -> str:
    plots = []
    for parameter in record.space.parameters:
        found = [(t, r["objective"]) for t, r in record.ranked if parameter.name in t.params]
        if found:
            where = f"where {parameter.condition()}" if parameter.when else ""
            plots.append(figure_html(_slice(record, parameter, found), where))
    lead = (
        f"Each point is a trial's best {metric_title(record.objective)}: filled where it trained "
        "to its end, open where it was stopped early, ringed for the winner."
    )
    return section_html(
        "Parameter by parameter", text_html(lead), f'<div class="slices">{"".join(plots)}</div>'
    )


def _slice(
    record: Record, parameter: Parameter, found: list[tuple[FrozenTrial, float]]
) -> go.Figure:
    figure = go.Figure()
    for ended, marker in (
        (False, {"color": "var(--faint)", "symbol": "circle-open", "size": 5}),
        (True, {"color": "var(--accent)", "opacity": 0.6, "size": 6}),
    ):
        mine = [(t, v) for t, v in found if (outcome(t) == "trained to the end") == ended]
        figure.add_scatter(**_points(parameter, mine), mode="markers", marker=marker)
    winner = [(t, v) for t, v in found if t.number == record.winner]
    ring = {"color": "var(--warm)", "symbol": "circle-open", "size": 12, "line": {"width": 2}}
    figure.add_scatter(**_points(parameter, winner), mode="markers", marker=ring, cliponaxis=False)
    figure.update_layout(
        height=230,
        showlegend=False,
        margin={"t": 6, "r": 12},
        xaxis={"title": {"text": parameter_title(parameter)}, **_axis(parameter)},
        yaxis={
            "range": record.value_range([r["objective"] for _, r in record.ranked]),
            "nticks": 5,
        },
    )
    return figure


def _points(parameter: Parameter, found: list[tuple[FrozenTrial, float]]) -> dict[str, Any]:
    values = [parameter.snap(trial.params[parameter.name]) for trial, _ in found]
    x: list[Any] = values
    if parameter.kind == "categorical":
        x = [
            parameter.choices.index(value) + spread(trial.number)
            for value, (trial, _) in zip(values, found, strict=True)
        ]
    return {
        "x": x,
        "y": [value for _, value in found],
        "customdata": [
            f"trial {trial.number}: {value_text(value)}"
            for value, (trial, _) in zip(values, found, strict=True)
        ],
        "hovertemplate": "%{customdata}, %{y:.4f}<extra></extra>",
    }


def spread(number: int) -> float:
    """Where trial `number` stands in its category's column: apart from others, always the same."""
    return _SPREAD * (2 * (number * _GOLDEN % 1) - 1)


def _axis(parameter: Parameter) -> dict[str, Any]:
    """The whole range that was searched, so that what was not tried shows."""
    if parameter.kind == "categorical":
        names = choice_names(parameter)
        return {
            "tickvals": list(range(len(names))),
            "ticktext": names,
            "tickangle": 0,
            "range": [-0.6, len(names) - 0.4],
        }
    low, high = parameter.bounds()
    if not parameter.log:
        margin = 0.05 * (high - low) or 0.5
        steps = list(islice(parameter.values() or (), STEPS + 1))
        ticks = {"tickvals": steps} if 0 < len(steps) <= STEPS else {"nticks": 5}
        return {**ticks, "range": [low - margin, high + margin]}
    margin = 0.05 * math.log10(high / low) or 0.1
    marks = log_marks(low, high)
    return {
        "type": "log",
        "tickvals": marks,
        "ticktext": [value_text(mark) for mark in marks],
        "range": [math.log10(low) - margin, math.log10(high) + margin],
    }


def choice_names(parameter: Parameter) -> list[str]:
    """The choices; more than fit beside each other stand on two lines in turn."""
    names = [value_text(choice) for choice in parameter.choices]
    lower = "<br>" if sum(map(len, names)) > NAMES else ""
    return [f"{lower * (k % 2)}{name}" for k, name in enumerate(names)]


def log_marks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high`: powers of ten, and thrice these where that is few."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 3) if high / low < WIDE else (1,)
    marks = [float(f"{step}e{exponent}") for exponent in exponents for step in steps]
    return [mark for mark in marks if low <= mark <= high] or [low, high]
