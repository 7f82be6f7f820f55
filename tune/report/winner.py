"""The winner, and how sure its figures are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import plotly.graph_objects as go

from lstmcls.config import variant_title
from lstmcls.model_card import linear_verdict, looks
from tune.confirm import choose_candidates, rank_candidates
from tune.intervals import LEVEL
from tune.report.page import (
    escaped,
    figure_html,
    note_html,
    section_html,
    table_html,
    text_html,
)
from tune.report.record import Record
from tune.report.wording import amount, interval_text, metric_title, number, value_text


def section(record: Record) -> str:
    trial = next((trial for trial in record.trials if trial.number == record.winner), None)
    if trial is None:
        return section_html("The winner", note_html("There is none: no trial has reported yet."))
    variant = record.space.config(trial.params).variant
    parts = [
        text_html(f"Trial {trial.number}, network {variant_title(variant)}."),
        *_warnings(record),
    ]
    candidates = _confirmed(record)
    parts.append(f'<dl class="merits">{"".join(_merits(record, candidates))}</dl>')
    if candidates:
        parts += ["<h3>On fresh seeds</h3>", *_confirmation(record, candidates)]
    rows = [
        (p.name, value_text(p.snap(trial.params[p.name])), p.describe())
        for p in record.space.active(trial.params)
    ]
    parts += ["<h3>Its parameters</h3>", table_html(("parameter", "value", "searched"), rows)]
    return section_html("The winner", *parts)


def _warnings(record: Record) -> Iterator[str]:
    if record.unfinished:
        yield note_html(
            f"The run is not finished: {amount(record.unfinished, 'trial')} begun and not ended."
            + (" The figures are those of the last sitting that ended." if record.metrics else "")
        )
    if not (record.metrics or {}).get("confirmation"):
        yield note_html("Its value is not confirmed on fresh seeds: it is likely too good.")


def _confirmed(record: Record) -> list[dict[str, Any]]:
    """Candidate.summary() of each candidate, best first; of the runs so far where some are out."""
    if record.metrics is not None and record.metrics.get("confirmation"):
        return list(record.metrics["confirmation"])
    if record.confirmation is None:
        return []
    candidates = choose_candidates(record.space, record.search)
    ranked = rank_candidates(candidates, record.confirmation, record.objective)
    return [candidate.summary() for candidate in ranked]


def _merits(record: Record, candidates: list[dict[str, Any]]) -> Iterator[str]:
    metric = metric_title(record.objective)
    best = next((c for c in candidates if c["trial"] == record.winner), None)
    if best is not None:
        runs, half = best["runs"], number(best["half_width"])
        spread = "one run says nothing of its spread"
        if not math.isnan(half):
            deviation = number(best["deviation"])
            spread = f"± half the {LEVEL:.0%} interval; standard deviation {deviation:.4f}"
        yield _merit(f"{metric}, mean of {amount(runs, 'fresh seed')}", best["mean"], half, spread)
    for rank, (trial, report) in enumerate(record.ranked, start=1):
        if trial.number == record.winner:
            of = amount(len(record.ranked), "trial")
            place = f"the best of {of}, so likely too good" if rank == 1 else f"rank {rank} of {of}"
            if len(record.ranked) == 1:
                tried = len(record.trials)
                place = "the only trial" if tried == 1 else f"the only one of {tried} with a value"
            rest = f"epoch {report['epoch']:g}; {place}"
            yield _merit(f"{metric} in the search", report["objective"], math.nan, rest)
    linear = (record.metrics or {}).get("linear")
    if linear is not None:
        value = number(linear[record.objective.metric.removeprefix("val_")])
        rest = "TF-IDF of n-grams, logistic regression: what a search should beat"
        yield _merit(f"{metric} of a linear model", value, math.nan, rest)
    test = (record.metrics or {}).get("test")
    if test is not None:
        rest = f"{LEVEL:.0%} interval {interval_text(test['accuracy_interval'])}"
        yield _merit(
            f"test accuracy, {test['rows']:,} texts, {looks(test)}",
            test["accuracy"], math.nan, rest,
        )  # fmt: skip
        if (name := record.objective.metric.removeprefix("val_")) != "accuracy":
            title = metric_title(record.objective).replace("validation", "test")
            rest = "of the same look"
            if (ends := test.get(f"{name}_interval")) and None not in ends:  # earlier: without
                rest = f"{LEVEL:.0%} interval {interval_text(ends)}"
            yield _merit(title, number(test.get(name)), math.nan, rest)
        if "calibration_error" in test:
            rest = "on average, of the predicted class's; Brier score " + f"{test['brier']:.4f}"
            title = "test probabilities are off by"
            yield _merit(title, test["calibration_error"], math.nan, rest)
        if "difference" in test:
            rest = f"{LEVEL:.0%} interval {interval_text(test['difference_interval'], '+')}"
            title = f"test accuracy against the baseline's {test['baseline_accuracy']:.4f}"
            shown = f"{test['difference']:+.4f}"
            yield _merit(title, shown, math.nan, f"{rest}, paired by text")
        elif any(c["baseline"] for c in candidates[:1]):
            yield _merit("against the baseline", "–", math.nan, "the winner is the baseline itself")
    if test := (linear or {}).get("test"):
        rest = f"{LEVEL:.0%} interval {interval_text(test['difference_interval'], '+')}"
        title = f"test accuracy against the linear model's {test['accuracy']:.4f}"
        shown = f"{test['difference']:+.4f}"
        yield _merit(title, shown, math.nan, f"{rest}, paired by text: {linear_verdict(test)}")


def _merit(title: str, value: float | str, half_width: float, rest: str) -> str:
    shown = value if isinstance(value, str) else f"{value:.4f}"
    half = "" if math.isnan(half_width) else f" <small>± {half_width:.4f}</small>"
    return (
        f"<div><dt>{escaped(title)}</dt><dd>{escaped(shown)}{half}</dd>"
        f'<dd class="rest">{escaped(rest)}</dd></div>'
    )


def _confirmation(record: Record, candidates: list[dict[str, Any]]) -> Iterator[str]:
    names = [f"trial {c['trial']}{', baseline' if c['baseline'] else ''}" for c in candidates]
    figure = go.Figure()
    figure.add_scatter(
        x=[value for c in candidates for value in c["values"]],
        y=[name for name, c in zip(names, candidates, strict=True) for _ in c["values"]],
        mode="markers",
        marker={"color": "var(--faint)", "size": 8},
        name="one seed",
        hovertemplate="%{x:.4f}<extra></extra>",
    )
    figure.add_scatter(
        x=[c["mean"] for c in candidates],
        y=names,
        error_x={
            "array": [c["half_width"] for c in candidates],
            "color": "var(--accent)",
            "thickness": 2,
            "width": 0,
        },
        mode="markers",
        marker={
            "color": "var(--accent)",
            "size": 11,
            "symbol": "line-ns",
            "line": {"width": 3, "color": "var(--accent)"},
        },
        name=f"mean and its {LEVEL:.0%} interval",
        hovertemplate="mean %{x:.4f}<extra></extra>",
    )
    figure.update_layout(
        height=110 + 44 * len(candidates),
        xaxis={"title": {"text": metric_title(record.objective)}},
        yaxis={"autorange": "reversed", "showgrid": False},
    )
    yield figure_html(
        figure,
        "Each configuration trained again, to its end, on seeds that the search never used. "
        "The interval is Student's t over the seeds.",
    )
    columns = ("candidate", "runs", "mean", "standard deviation", f"half width ({LEVEL:.0%})")
    yield table_html(
        columns,
        [
            (name, c["runs"], *(number(c[key]) for key in ("mean", "deviation", "half_width")))
            for name, c in zip(names, candidates, strict=True)
        ],
    )
