"""What a finished search prints: the winner, how sure its figures are, and one prediction.

A search that compares switches or variants, all else alike, ends with that comparison.
"""

from __future__ import annotations

import math

import optuna
import pandas as pd

from lstmcls.artifact import Artifact
from lstmcls.config import FIELDS, VARIANTS, TrainConfig, variant_title
from lstmcls.dataset import Prepared, unlabelled
from lstmcls.model_card import linear_verdict, looks
from tune.ablation import SWITCHES, ablation_text, analyse
from tune.confirm import Candidate
from tune.intervals import LEVEL, mean_interval
from tune.session import Outcome
from tune.space import SearchSpace
from tune.tables import settings_table

WIDTH = 60  # characters of the example's text


def summary(outcome: Outcome) -> str:
    """The winner in a few lines."""
    winner, space = outcome.winner, outcome.space
    metric = space.objective.metric
    assert winner is not None
    lines = [
        *_warning(outcome),
        f"winner:  trial {winner.trial}, {variant_title(winner.config.variant)}",
        f"         {_settings(space, winner.config)}",
        f"{metric}: {winner.report['objective']:.4f} at epoch {winner.report['epoch']:g} "
        f"({outcome.prepared.info['rows']['val']:,} validation rows; {_which(outcome)})",
    ]
    if not outcome.candidates:
        more = "; more --minutes go on with it" if space.budget.minutes else ""
        none = f"none of its runs came to its end{more}"
        why = none if space.confirm.top else "off"
        return "\n".join([*lines, f"confirmation: {why}", *_linear_lines(outcome)])
    lines.append(f"confirmed on fresh seeds, {metric}, mean ± half of its {LEVEL:.0%} interval:")
    lines += [_candidate_line(candidate) for candidate in outcome.candidates]
    lines += [f"  trial {n}: none of its runs came to its end" for n in outcome.unconfirmed]
    if outcome.test is not None:
        test = outcome.test
        low, high = test["accuracy_interval"]
        lines.append(
            f"test accuracy: {test['accuracy']:.4f}, {LEVEL:.0%} interval {low:.4f} to {high:.4f} "
            f"({test['rows']:,} rows, {looks(test)})"
        )
        name = metric.removeprefix("val_")
        if name != "accuracy":
            low, high = test[f"{name}_interval"]
            lines.append(
                f"test {name}: {test[name]:.4f}, {LEVEL:.0%} interval {low:.4f} to {high:.4f}"
            )
        if "difference" in test:
            low, high = test["difference_interval"]
            lines.append(
                f"test accuracy against the baseline's: {test['difference']:+.4f}, "
                f"{LEVEL:.0%} interval {low:+.4f} to {high:+.4f} (paired by example, "
                "the trainings' seeds not covered)"
            )
    return "\n".join([*lines, *_linear_lines(outcome)])


def _which(outcome: Outcome) -> str:
    """Which run the weights are of: a confirmed winner's value in the search was another."""
    if not outcome.candidates:
        return "it chose the winner"
    runs = len(outcome.candidates[0].runs)
    return "its run on a fresh seed" if runs == 1 else f"the best of its {runs} on fresh seeds"


def _settings(space: SearchSpace, config: TrainConfig) -> str:
    """The four switches, what was searched, and what else is not at its default."""
    told = {*VARIANTS["plain"], *(parameter.field for parameter in space.parameters)}
    settings = config.to_dict()
    told |= {k for k, default in TrainConfig().to_dict().items() if settings[k] != default}
    return ", ".join(
        f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}"
        for k, v in settings.items()
        if k in told - {"seed"}
    )


def _linear_lines(outcome: Outcome) -> list[str]:
    """What a linear model reaches; where test rows were judged, they alone say which is better."""
    if not outcome.linear:
        return []
    objective, winner = outcome.space.objective, outcome.winner
    assert winner is not None
    value = outcome.linear[objective.metric.removeprefix("val_")]
    line = f"a linear model (TF-IDF, logistic regression), {objective.metric}: {value:.4f}"
    test = outcome.linear.get("test")
    if test is None:
        ours = winner.report["objective"]
        if outcome.candidates:
            ours = outcome.candidates[0].summary()["mean"]
        # As they are shown: what looks the same is not called better.
        better = objective.better(round(value, 4), round(ours, 4))
        return [line + ", better than the winner" * better]
    low, high = test["difference_interval"]
    return [
        line,
        f"test accuracy against the linear model's {test['accuracy']:.4f}: "
        f"{test['difference']:+.4f}, {LEVEL:.0%} interval {low:+.4f} to {high:+.4f} "
        f"(paired by example): {linear_verdict(test)}",
    ]


def _warning(outcome: Outcome) -> list[str]:
    """What comes before all else: the search was not worth its time."""
    test = outcome.linear.get("test")
    if test is None or test["difference_interval"][1] >= 0:
        return []
    return [
        "a linear model, trained in seconds, is better than this winner on the test texts; a "
        "longer search, or other settings, may change that"
    ]


def _candidate_line(candidate: Candidate) -> str:
    figures = candidate.summary()
    spread = ""
    if not math.isnan(figures["deviation"]):
        spread = f" ± {figures['half_width']:.4f} (deviation {figures['deviation']:.4f})"
    mark = ", the baseline" if candidate.baseline else ""
    runs = f"{figures['runs']} run{'s' * (figures['runs'] > 1)}"
    return f"  trial {candidate.trial}{mark}: {figures['mean']:.4f}{spread}, {runs}"


def comparison(space: SearchSpace, search: optuna.Study) -> str | None:
    """What the search says of the switches or the variants, where comparing them is its purpose."""
    table = settings_table(space, search)
    if found := analyse(table, space.objective):
        return ablation_text(found)
    return variants_text(table, space.objective.metric)


def variants_text(table: pd.DataFrame, metric: str) -> str | None:
    """Variant by padding: mean ± half width over the seeds of a `tables.settings_table`.

    None where a trial is of no variant, or its other settings differ.
    """
    others = table[[name for name in FIELDS if name not in (*SWITCHES, "padding", "seed")]]
    variants = [variant for variant in VARIANTS if variant in set(table["variant"])]
    if len(variants) < 2 or "custom" in set(table["variant"]) or (others.nunique() > 1).any():
        return None
    paddings = list(dict.fromkeys(table["padding"]))
    lines = [
        f"{metric}, mean of the seeds ± half of its {LEVEL:.0%} interval:",
        f"  {'':13}" + "".join(f"  {padding:15}" for padding in paddings),
    ]
    for variant in variants:
        cells = [table[(table["variant"] == variant) & (table["padding"] == p)] for p in paddings]
        shown = [_mean(cell["value"].dropna().tolist()) for cell in cells]
        lines.append(f"  {variant:13}" + "".join(f"  {figure:15}" for figure in shown))
    lost = table[table["value"].isna()]["variant"].value_counts()
    if len(lost):
        by_variant = ", ".join(f"{v} {lost[v]}" for v in variants if v in lost)
        lines.append(f"  without a value, and in no mean, which flatters them: {by_variant}")
    return "\n".join(line.rstrip() for line in lines)


def _mean(values: list[float]) -> str:
    if not values:
        return "no value"
    mean, _, half = mean_interval(values)
    return f"{mean:.4f}" + (f" ± {half:.4f}" if len(values) > 1 else "")


def example(artifact: Artifact, prepared: Prepared) -> str:
    """One validation text, as its tokens read, and what the winner says of it."""
    val = prepared.splits["val"]
    row = int(abs(val.lengths - 20).argmin())  # long enough to say something, short enough to show
    ids = val.ids[val.offsets[row] : val.offsets[row + 1]].tolist()
    text = artifact.tokenizer.decode(ids)
    probabilities = artifact.row_probabilities(unlabelled([ids]))[0]
    label = artifact.labels[int(probabilities.argmax())]
    truth = artifact.labels[int(val.labels[row])]
    shown = text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"
    return (
        f"example (its tokens): «{shown}» is {label} ({probabilities.max():.2f}; labelled {truth})"
    )
