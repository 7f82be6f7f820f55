"""Which parameters mattered, by PED-ANOVA."""

from __future__ import annotations

import warnings

import optuna
import plotly.graph_objects as go
from optuna.trial import TrialState, create_trial

from tune.report.page import figure_html, note_html, section_html, text_html
from tune.report.record import Record
from tune.report.wording import amount

FEWEST = 10  # trials with a value, below which nothing is judged
ENOUGH = 50  # trials, below which the order may be chance
BEST = 5  # of the best trials at least use a parameter that is judged, as Optuna advises


def section(record: Record) -> str:
    title, count = "What mattered", len(record.ranked)
    if count < FEWEST:
        few = f"Too few to tell: {amount(count, 'trial')} with a value; it takes {FEWEST} or more."
        return section_html(title, note_html(few))
    parts = []
    if count < ENOUGH:
        parts.append(note_html(f"From {count} trials only: a hint, and the order may be chance."))
    found = importances(record)
    if not any(found.values()):
        return section_html(title, *parts, note_html("No parameter sets the best trials apart."))
    parts.append(figure_html(_bars(record, found), _caption(record)))
    if rare := [name for name, used in uses(record).items() if used < BEST]:
        few = f"Not judged, used by fewer than {BEST} of the best trials: {', '.join(rare)}."
        parts.append(text_html(few))
    return section_html(title, *parts)


def _caption(record: Record) -> str:
    count = len(record.ranked)
    return (
        f"How far the best {target_share(count):.0%} of the trials differ from all {count} in each "
        "parameter, as shares of the whole (PED-ANOVA, arXiv 2304.10255). A conditional parameter "
        "is judged in the trials that use it, and weighted by how many of the best do (arXiv "
        "2601.20800). It tells what mattered among the values that were tried, not which are good."
    )


def uses(record: Record) -> dict[str, int]:
    """How many of the best trials use each parameter."""
    best = record.ranked[: round(target_share(len(record.ranked)) * len(record.ranked))]
    names = [parameter.name for parameter in record.space.parameters]
    return {name: sum(name in trial.params for trial, _ in best) for name in names}


def target_share(count: int) -> float:
    """The share of trials that counts as the best: a tenth, or BEST trials where that is more."""
    return max(0.1, min(0.5, BEST / count))


def importances(record: Record) -> dict[str, float]:
    """Each parameter's share of the importance, the largest first; all 0 where none has any.

    A conditional parameter that few of the best use is left out: its share would be noise. A
    trial that was stopped early counts with its best value, since PED-ANOVA only asks whether a
    trial is among the best; Optuna alone would look at those that trained to their end.
    """
    study = optuna.create_study(direction=record.objective.direction)
    for trial, report in record.ranked:
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE,
                value=report["objective"],
                params=trial.params,
                distributions=trial.distributions,
            )
        )
    often = [name for name, used in uses(record).items() if used >= BEST]
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(
        target_quantile=target_share(len(record.ranked))
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as: a condition that one trial alone met
        found = optuna.importance.get_param_importances(
            study, evaluator=evaluator, params=often, normalize=False
        )
    total = sum(found.values()) or 1.0
    return {name: value / total for name, value in found.items()}


def _bars(record: Record, found: dict[str, float]) -> go.Figure:
    conditions = {p.name: f"<br>where {p.condition()}" for p in record.space.parameters if p.when}
    figure = go.Figure()
    figure.add_bar(
        x=list(found.values()),
        y=list(found),
        orientation="h",
        marker={"color": "var(--accent)"},
        text=[f"{value:.0%}" for value in found.values()],
        textposition="outside",
        cliponaxis=False,
        customdata=[conditions.get(name, "") for name in found],
        hovertemplate="%{y}: %{x:.1%}%{customdata}<extra></extra>",
    )
    figure.update_layout(
        height=70 + 26 * len(found),
        bargap=0.35,
        margin={"r": 40},
        xaxis={"title": {"text": "share of the importance"}, "tickformat": ".0%"},
        yaxis={"autorange": "reversed", "showgrid": False},
    )
    return figure
