"""All parameters at once: parallel coordinates, one axis below the other to suit a phone."""

from __future__ import annotations

import math
from typing import Any

import plotly.graph_objects as go
from optuna.trial import FrozenTrial

from tune.report.page import figure_html, section_html
from tune.report.record import Record
from tune.report.slices import choice_names, spread
from tune.report.wording import metric_title, value_text
from tune.space import Parameter

UNUSED = 1.12  # where a trial passes an axis that it has no value on
ROW = 58  # pixels from axis to axis
BEST = 0.1  # the share of trials that stand out


def section(record: Record) -> str:
    caption = (
        "Read downwards: each line is a trial on its way through its parameters to its best value."
    )
    if any(parameter.when for parameter in record.space.parameters):
        caption += " It passes right of an axis whose condition it does not meet."
    return section_html("All parameters at once", figure_html(parallel(record), caption))


def parallel(record: Record) -> go.Figure:
    used = {name for trial, _ in record.ranked for name in trial.params}
    axes = [parameter for parameter in record.space.parameters if parameter.name in used]
    count = max(1, round(BEST * len(record.ranked)))
    figure = go.Figure()
    for name, pairs, line, opacity in (
        ("the others", record.ranked[count:], {"color": "var(--faint)", "width": 1}, 0.4),
        (
            f"the best {BEST:.0%}",
            record.ranked[:count],
            {"color": "var(--accent)", "width": 1.5},
            0.8,
        ),
        (
            "the winner",
            [pair for pair in record.ranked if pair[0].number == record.winner],
            {"color": "var(--warm)", "width": 2.5},
            1.0,
        ),
    ):
        if pairs:
            figure.add_scatter(**_lines(record, axes, pairs), line=line, opacity=opacity, name=name)
    for row, parameter in enumerate(axes):
        _label(figure, row, parameter.name, _ticks(parameter))
    if any(parameter.when for parameter in axes):
        figure.add_annotation(
            x=UNUSED, y=0, yshift=15, xanchor="right", showarrow=False, text="not used",
            font={"size": 11, "color": "var(--muted)"},
        )  # fmt: skip
    low, high = record.value_range([r["objective"] for _, r in record.ranked])
    ends = [(0.0, f"{low:.3f}"), (1.0, f"{high:.3f}")]
    _label(figure, len(axes), metric_title(record.objective), ends)
    figure.update_layout(
        height=ROW * (len(axes) + 1) + 40,
        xaxis={"visible": False, "range": [-0.03, UNUSED + 0.03]},
        yaxis={"visible": False, "range": [len(axes) + 0.5, -0.6]},
    )
    return figure


def place(parameter: Parameter, value: Any) -> float:
    """`value` on the parameter's axis, from 0 to 1."""
    if parameter.kind == "categorical":
        last = len(parameter.choices) - 1
        return parameter.choices.index(value) / last if last else 0.5
    low, high = parameter.bounds()
    if low == high:
        return 0.5
    if parameter.log:
        return math.log(value / low) / math.log(high / low)
    return float((value - low) / (high - low))


def _lines(
    record: Record, axes: list[Parameter], pairs: list[tuple[FrozenTrial, dict[str, Any]]]
) -> dict[str, Any]:
    """The trials as one trace, with a gap after each."""
    low, high = record.value_range([r["objective"] for _, r in record.ranked])
    points: list[tuple[Any, Any, str]] = []
    for trial, report in pairs:
        aside = 0.05 * spread(trial.number)  # so that trials with the same choices stay apart
        for row, parameter in enumerate(axes):
            text, at = "not used", UNUSED
            if parameter.name in trial.params:
                value = parameter.snap(trial.params[parameter.name])
                text, at = value_text(value), place(parameter, value)
            points.append((at + aside, row, f"trial {trial.number}: {parameter.name} {text}"))
        value = report["objective"]
        end = min(1.0, max(0.0, (value - low) / (high - low)))
        points += [(end, len(axes), f"trial {trial.number}: {value:.4f}"), (None, None, "")]
    x, y, texts = zip(*points, strict=True)
    return {
        "x": x,
        "y": y,
        "customdata": texts,
        "mode": "lines",
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _ticks(parameter: Parameter) -> list[tuple[float, str]]:
    if parameter.kind == "categorical":
        return [
            (place(parameter, choice), name)
            for choice, name in zip(parameter.choices, choice_names(parameter), strict=True)
        ]
    return [(float(end), value_text(b)) for end, b in zip((0, 1), parameter.bounds(), strict=True)]


def _label(figure: go.Figure, row: int, name: str, ticks: list[tuple[float, str]]) -> None:
    """An axis: a line, its name above its left end, its values below."""
    figure.add_shape(
        type="line", x0=0, x1=1, y0=row, y1=row, layer="below",
        line={"color": "var(--rule)", "width": 1},
    )  # fmt: skip
    plain = {"showarrow": False, "y": row, "bgcolor": "var(--paper)", "borderpad": 1}
    figure.add_annotation(
        **plain, x=0, xanchor="left", yshift=15, text=name, font={"size": 12, "weight": 600}
    )
    for at, text in ticks:
        anchor = "left" if at == 0 else "right" if at == 1 else "center"
        line = text.removeprefix("<br>")  # which an annotation would not heed
        figure.add_annotation(
            **plain, x=at, xanchor=anchor, yanchor="top", yshift=-3 if line == text else -16,
            text=line, font={"size": 11, "color": "var(--muted)"},
        )  # fmt: skip
