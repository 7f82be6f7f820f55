"""The winner, and how sure its figures are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import plotly.graph_objects as go

from lstmcls.config import variant_title
from lstmcls.expectations import (
    confirmed_candidates,
    expectations,
    interval_text,
    linear_verdict,
    looks,
)
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
from tune.report.wording import amount, metric_title, number, value_text


def section(record: Record) -> str:
    trial = next((trial for trial in record.trials if trial.number == record.winner), None)
    if trial is None:
        return section_html("The winner", note_html("There is none: no trial has reported yet."))
    variant = record.space.config(trial.params).variant
    parts = [
        text_html(f"Trial {trial.number}, network {variant_title(variant)}."),
        *map(text_html, expectations(record.metrics or {})),
        *_warnings(record),
    ]
    candidates = _confirmed(record)
    parts.append(f'<dl class="merits">{"".join(_merits(record, candidates))}</dl>')
    if candidates:
        parts += ["<h3>Out of fold</h3>", *_confirmation(record, candidates)]
    if found := (record.metrics or {}).get("out_of_fold"):
        parts += ["<h3>What its probabilities say</h3>", _reliability(found)]
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
        yield note_html("Its value is not confirmed by cross-validation: it is likely too good.")


def _confirmed(record: Record) -> list[dict[str, Any]]:
    """`confirmation` of metrics.json, the best first; nothing where there is none yet."""
    return confirmed_candidates(record.metrics or {})


def _merits(record: Record, candidates: list[dict[str, Any]]) -> Iterator[str]:
    metric = metric_title(record.objective)
    best = next((c for c in candidates if c["trial"] == record.winner), None)
    if best is not None:
        ends = f"{LEVEL:.0%} interval {interval_text(best['interval'])}"
        title = f"{metric} of single networks, out of {amount(best['runs'], 'fold')}"
        yield _merit(title, number(best["value"]), ends)
    if (found := (record.metrics or {}).get("out_of_fold")) is not None:
        name = record.objective.metric.removeprefix("val_")
        ends = f"{LEVEL:.0%} interval {interval_text(found[f'{name}_interval'])}"
        title = f"{metric} of what is exported, out of fold, {found['rows']:,} texts"
        yield _merit(title, number(found[name]), ends)
    for rank, (trial, report) in enumerate(record.ranked, start=1):
        if trial.number == record.winner:
            of = amount(len(record.ranked), "trial")
            place = f"the best of {of}, so likely too good" if rank == 1 else f"rank {rank} of {of}"
            if len(record.ranked) == 1:
                tried = len(record.trials)
                place = "the only trial" if tried == 1 else f"the only one of {tried} with a value"
            rest = f"epoch {report['epoch']:g}; {place}"
            yield _merit(f"{metric} in the search", report["objective"], rest)
    linear = (record.metrics or {}).get("linear")
    if linear is not None:
        value = number(linear[record.objective.metric.removeprefix("val_")])
        rest = "TF-IDF of n-grams, logistic regression: what a search should beat"
        yield _merit(f"{metric} of a linear model", value, rest)
    test = (record.metrics or {}).get("test")
    if test is not None:
        rest = f"{LEVEL:.0%} interval {interval_text(test['accuracy_interval'])}"
        yield _merit(
            f"test accuracy, {test['rows']:,} texts, {looks(test)}",
            test["accuracy"], rest,
        )  # fmt: skip
        if (name := record.objective.metric.removeprefix("val_")) != "accuracy":
            title = metric_title(record.objective).replace("validation", "test")
            rest = "of the same look"
            if (ends := test.get(f"{name}_interval")) and None not in ends:  # earlier: without
                rest = f"{LEVEL:.0%} interval {interval_text(ends)}"
            yield _merit(title, number(test.get(name)), rest)
        if "calibration_error" in test:
            rest = "on average, of the predicted class's; Brier score " + f"{test['brier']:.4f}"
            title = "test probabilities are off by"
            yield _merit(title, test["calibration_error"], rest)
        if "difference" in test:
            rest = f"{LEVEL:.0%} interval {interval_text(test['difference_interval'], '+')}"
            title = f"test accuracy against the baseline's {test['baseline_accuracy']:.4f}"
            shown = f"{test['difference']:+.4f}"
            yield _merit(title, shown, f"{rest}, paired by text")
        elif any(c["baseline"] for c in candidates[:1]):
            yield _merit("against the baseline", "–", "the winner is the baseline itself")
    if test := (linear or {}).get("test"):
        rest = f"{LEVEL:.0%} interval {interval_text(test['difference_interval'], '+')}"
        title = f"test accuracy against the linear model's {test['accuracy']:.4f}"
        shown = f"{test['difference']:+.4f}"
        yield _merit(title, shown, f"{rest}, paired by text: {linear_verdict(test)}")


def _merit(title: str, value: float | str, rest: str) -> str:
    shown = value if isinstance(value, str) else f"{value:.4f}"
    return (
        f"<div><dt>{escaped(title)}</dt><dd>{escaped(shown)}</dd>"
        f'<dd class="rest">{escaped(rest)}</dd></div>'
    )


def _confirmation(record: Record, candidates: list[dict[str, Any]]) -> Iterator[str]:
    names = [f"trial {c['trial']}{', baseline' if c['baseline'] else ''}" for c in candidates]
    ends = [[number(end) for end in c["interval"]] for c in candidates]
    values = [number(c["value"]) for c in candidates]
    figure = go.Figure()
    figure.add_scatter(
        x=[value for c in candidates for value in c["values"]],
        y=[name for name, c in zip(names, candidates, strict=True) for _ in c["values"]],
        mode="markers",
        marker={"color": "var(--faint)", "size": 8},
        name="one run",
        hovertemplate="%{x:.4f}<extra></extra>",
    )
    figure.add_scatter(
        x=values,
        y=names,
        error_x={
            "array": [high - value for value, (_, high) in zip(values, ends, strict=True)],
            "arrayminus": [value - low for value, (low, _) in zip(values, ends, strict=True)],
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
        name=f"over all rows, and its {LEVEL:.0%} interval",
        hovertemplate="%{x:.4f}<extra></extra>",
    )
    figure.update_layout(
        height=110 + 44 * len(candidates),
        xaxis={"title": {"text": metric_title(record.objective)}},
        yaxis={"autorange": "reversed", "showgrid": False},
    )
    yield figure_html(
        figure,
        "Each configuration trained again without one fold of the rows, on a fresh seed, and "
        "judged on that fold: a point for each run. All have the same folds; the interval "
        "covers rows and runs.",
    )
    yield table_html(
        ("candidate", "runs", "out of fold", f"{LEVEL:.0%} interval", "left the race"),
        [
            (name, c["runs"], value, interval_text(c["interval"]), c["left"] or "–")
            for name, c, value in zip(names, candidates, values, strict=True)
        ],
    )


def _reliability(found: dict[str, Any]) -> str:
    """How often the predicted class is right, by how probable it is said to be."""
    figure = go.Figure()
    drawn = {
        "perfect": ([[0, 0, 0], [1, 1, 0]], "var(--faint)", "lines"),
        "single networks": (
            found["networks_alone"]["reliability"],
            "var(--faint)",
            "lines+markers",
        ),
        "exported": (found["reliability"], "var(--accent)", "lines+markers"),
    }
    for name, (points, colour, mode) in drawn.items():
        figure.add_scatter(
            x=[point[0] for point in points],
            y=[point[1] for point in points],
            mode=mode,
            line={"color": colour, "dash": "dot" if name == "perfect" else "solid"},
            name=name,
            hovertemplate="said %{x:.3f}, right %{y:.3f}<extra></extra>",
        )
    least = min(point[0] for point in found["reliability"])
    figure.update_layout(
        height=360,
        xaxis={
            "title": {"text": "probability of the predicted class"},
            "range": [least - 0.05, 1.01],
        },
        yaxis={"title": {"text": "share that is right"}, "range": [least - 0.1, 1.01]},
    )
    before, after = (f["calibration_error"] for f in (found["networks_alone"], found))
    return figure_html(
        figure,
        f"Out of fold, in bins of equally many texts. Calibration error {before:.4f} of single "
        f"networks, {after:.4f} after the weights were fitted.",
    )
