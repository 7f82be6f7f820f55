"""What a finished search prints: the winner, how sure its figures are, and one prediction.

A search that compares switches or variants, all else alike, ends with that comparison.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import optuna
import pandas as pd

from lstmcls.artifact import Artifact
from lstmcls.config import FIELDS, VARIANTS, TrainConfig, variant_title
from lstmcls.dataset import Prepared
from lstmcls.expectations import expectations, interval_text
from tune.ablation import SWITCHES, ablation_text, analyse
from tune.confirmation.bag import Bag
from tune.intervals import LEVEL, mean_interval
from tune.session import Outcome
from tune.space import SearchSpace
from tune.tables import settings_table
from tune.winner import Winner

WIDTH = 60  # characters of the example's text


def summary(outcome: Outcome) -> str:
    """What to expect of the winner, against what, how sure that is, and what it is made of."""
    winner, space = outcome.winner, outcome.space
    assert winner is not None
    head = [
        f"winner:  trial {winner.trial}, {variant_title(winner.config.variant)}",
        f"         {_settings(space, winner.config)}",
    ]
    if isinstance(winner, Winner):
        return "\n".join([*head, *_not_confirmed(outcome, winner), *_linear_line(outcome)])
    lines = [*_warning(outcome), *head, f"         exported: {members_text(winner)}"]
    return "\n".join([*lines, *_out_of_fold(outcome, winner), *_expected(outcome, winner)])


def _not_confirmed(outcome: Outcome, winner: Winner) -> list[str]:
    space, rows = outcome.space, len(outcome.prepared.splits["val"])
    more = "; more --minutes resume it" if space.budget.minutes else ""
    why = f"none of its candidates finished two folds{more}" if space.confirm.top else "off"
    return [
        f"{space.objective.metric}: {winner.report['objective']:.4f} at epoch "
        f"{winner.report['epoch']:g} ({rows:,} validation rows, which chose the winner: on new "
        "texts expect less)",
        f"not confirmed: {why}",
    ]


def members_text(bag: Bag) -> str:
    """What answers together, in words."""
    networks, linear = bag.ensemble.networks, len(bag.ensemble.members) > bag.ensemble.networks
    text = f"{networks} networks, each trained without one fold, averaged"
    return text + " and blended with a linear model" * linear


def _out_of_fold(outcome: Outcome, bag: Bag) -> list[str]:
    metric = outcome.space.objective.metric.removeprefix("val_")
    rows = bag.figures["rows"]
    title = f"out of fold, {metric} of single networks and its {LEVEL:.0%} interval"
    lines = [f"{title} ({rows:,} rows):", *map(_candidate_line, outcome.candidates)]
    lines += [f"  trial {n}: none of its runs ended" for n in outcome.unconfirmed]
    if not bag.confirmed:
        more = "; more --minutes resume it" if outcome.space.budget.minutes else ""
        lines.append(f"not confirmed: {len(bag.candidate.runs)} folds of the winner{more}")
    return lines


def _expected(outcome: Outcome, bag: Bag) -> list[str]:
    return expectations(
        {
            "test": outcome.test,
            "linear": outcome.linear,
            "objective": outcome.space.objective.metric,
            "level": LEVEL,
            "out_of_fold": bag.figures,
        }
    )


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


def _linear_line(outcome: Outcome) -> list[str]:
    """What a linear model reaches on the validation rows, where no test rows were judged."""
    if not outcome.linear:
        return []
    objective, winner = outcome.space.objective, outcome.winner
    assert isinstance(winner, Winner)
    value = outcome.linear[objective.metric.removeprefix("val_")]
    line = f"a linear model (TF-IDF, logistic regression), {objective.metric}: {value:.4f}"
    # As they are shown: what looks the same is not called better.
    better = objective.better(round(value, 4), round(winner.report["objective"], 4))
    return [line + ", better than the winner" * better]


def _warning(outcome: Outcome) -> list[str]:
    """What comes before all else: the search was not worth its time."""
    test = outcome.linear.get("test")
    if test is None or test["difference_interval"][1] >= 0:
        return []
    return [
        "a linear model, trained in seconds, is better than this winner on the test texts; a "
        "longer search, or other settings, may change that"
    ]


def _candidate_line(figures: Mapping[str, Any]) -> str:
    spread = ""
    if not math.isnan(figures["interval"][0]):
        spread = f", {interval_text(figures['interval'])}"
    mark = ", the baseline" if figures["baseline"] else ""
    left = f"; left: {figures['left']}" if figures["left"] else ""
    folds = f"{figures['folds']} of {figures['of']} folds"
    return f"  trial {figures['trial']}{mark}: {figures['value']:.4f}{spread} ({folds}{left})"


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
    probabilities = artifact.row_probabilities(val.between(row, row + 1))[0]
    label = artifact.labels[int(probabilities.argmax())]
    truth = artifact.labels[int(val.labels[row])]
    shown = text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"
    return (
        f"example (its tokens): «{shown}» is {label} ({probabilities.max():.2f}; labelled {truth})"
    )
