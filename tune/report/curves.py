"""Learning curves, ASHA's rungs, and where each trial was stopped."""

from __future__ import annotations

import math
from typing import Any

import plotly.graph_objects as go
from optuna.trial import FrozenTrial

from tune.report.page import figure_html, section_html, table_html, text_html
from tune.report.record import Record
from tune.report.wording import metric_title, outcome
from tune.scheduler import StudyASHA, replay
from tune.study import reports_of

_LINES = {
    "stopped early": {"color": "var(--faint)", "width": 1},
    "failed": {"color": "var(--rose)", "width": 1, "dash": "dot"},
    "under way": {"color": "var(--violet)", "width": 1},
    "trained to the end": {"color": "var(--accent)", "width": 1},
}


def section(record: Record) -> str:
    reached = rungs(record)
    caption = "Each line is a trial, each point a report."
    if not reached:
        rows = text_html("ASHA was off: every trial could train to its end.")
    else:
        caption += (
            " A vertical line is a rung, where ASHA compares a trial with those that reached it "
            "before; a cross is where a trial was stopped."
        )
        stops = [t for t in record.trials if t.user_attrs.get("stopped", "").startswith("asha")]
        rows = table_html(
            ("rung (epochs)", "reached by", "stopped", "went on"),
            [(f"{rung:g}", *counts) for rung, counts in rung_counts(reached, stops).items()],
        )
    return section_html(
        "Learning curves", figure_html(curves(record, list(reached)), caption), rows
    )


def curves(record: Record, milestones: list[float]) -> go.Figure:
    """The objective over epochs; a logarithmic axis where rungs grow by a factor."""
    figure = go.Figure()
    for name, line in _LINES.items():
        mine = [t for t in record.trials if outcome(t) == name and t.number != record.winner]
        if any(t.intermediate_values for t in mine):
            figure.add_scatter(**_joined(mine), line=line, name=name, opacity=0.7)
    winner = [trial for trial in record.trials if trial.number == record.winner]
    figure.add_scatter(
        **_joined(winner), line={"color": "var(--warm)", "width": 2.5}, name="the winner"
    )
    ends = [reports_of(t)[-1] | {"trial": t.number} for t in record.trials if _stopped(t)]
    if ends:
        figure.add_scatter(
            x=[end["epoch"] for end in ends],
            y=[end["objective"] for end in ends],
            customdata=[end["trial"] for end in ends],
            mode="markers",
            marker={
                "symbol": "x-thin",
                "size": 6,
                "opacity": 0.7,
                "line": {"width": 1.5, "color": "var(--muted)"},
            },
            name="stopped here",
            hovertemplate="trial %{customdata} stopped at epoch %{x:g}<extra></extra>",
        )
    reports = [report for trial in record.trials for report in reports_of(trial)]
    epochs = [report["epoch"] for report in reports]
    milestones = [milestone for milestone in milestones if milestone <= max(epochs)]
    axis: dict[str, Any] = {"title": {"text": "epochs (passes over the training data)"}}
    if milestones:
        marks = [*milestones, *([max(epochs)] if max(epochs) > 1.2 * milestones[-1] else [])]
        low, high = math.log10(min(epochs)), math.log10(max(epochs))
        margin = 0.03 * (high - low) or 0.1
        axis |= {"type": "log", "tickvals": marks, "ticktext": [f"{mark:g}" for mark in marks],
                 "range": [low - margin, high + margin]}  # fmt: skip
    for milestone in milestones:
        figure.add_vline(x=milestone, line={"color": "var(--muted)", "width": 1, "dash": "dot"})
    figure.update_layout(
        height=420,
        xaxis=axis,
        yaxis={
            "title": {"text": metric_title(record.objective)},
            "range": record.value_range([report["objective"] for report in reports]),
        },
    )
    return figure


def rungs(record: Record) -> dict[float, set[int]]:
    """Each rung (epochs), the lowest first, with the trials that reached it."""
    if record.space.asha is None:
        return {}
    scheduler = StudyASHA(record.space.asha, record.objective, record.space.max_epochs)
    replay(scheduler, record.search, record.space)
    return {milestone: set(values) for milestone, values in sorted(scheduler.rungs().items())}


def rung_counts(
    reached: dict[float, set[int]], stopped: list[FrozenTrial]
) -> dict[float, tuple[int, int, int]]:
    """(trials that reached the rung, stopped there, went on) for each rung."""
    counts = {}
    ends = {trial.number: reports_of(trial)[-1]["epoch"] for trial in stopped}
    for rung, following in zip(reached, [*list(reached)[1:], math.inf], strict=True):
        here = sum(rung <= epoch < following for epoch in ends.values())
        counts[rung] = (len(reached[rung]), here, len(reached[rung]) - here)
    return counts


def _stopped(trial: FrozenTrial) -> bool:
    return outcome(trial) == "stopped early" and bool(trial.intermediate_values)


def _joined(trials: list[FrozenTrial]) -> dict[str, Any]:
    """Many curves as one trace, with a gap after each."""
    points: list[tuple[Any, Any, Any]] = []
    for trial in trials:
        points += [(r["epoch"], r["objective"], trial.number) for r in reports_of(trial)]
        points.append((None, None, None))
    x, y, numbers = zip(*points, strict=True)
    return {
        "x": x,
        "y": y,
        "customdata": numbers,
        "mode": "lines+markers",
        "marker": {"size": 3},
        "hovertemplate": "trial %{customdata}, epoch %{x:g}: %{y:.4f}<extra></extra>",
    }
