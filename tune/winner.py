"""The winner of a run: what it is, its weights, its figures, and the folders that hold it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
import torch
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState
from safetensors import SafetensorError

from lstmcls.artifact import read_metrics, save_artifact
from lstmcls.calibration import brier_score, expected_calibration_error
from lstmcls.cli import BadInput, RunFailed
from lstmcls.config import TrainConfig
from lstmcls.dataset import Prepared, TokenDataset
from lstmcls.ensemble import Ensemble
from lstmcls.files import replacing
from lstmcls.metrics import METRICS, classification_metrics, confusion
from tune.checkpoints import load_weights, trial_folder
from tune.confirmation.bag import Bag, Tested
from tune.confirmation.candidates import LAST, LOOKED
from tune.intervals import newcombe_paired
from tune.metric_intervals import metric_difference, metric_interval
from tune.resources import Share
from tune.run_folder import RunFolder
from tune.space import Objective, SearchSpace
from tune.store import Store
from tune.study import SEARCH, ranked, reports_of

MISTAKES = 10  # that a report shows
TIMED = 300  # texts
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Winner:
    """One trained network: its configuration, where its weights are, its best report."""

    trial: int  # the configuration's number in the search
    config: TrainConfig
    folder: Store  # of the worker that trained it
    report: dict[str, Any]

    @property
    def val(self) -> dict[str, float]:
        return {name: self.report[f"val_{name}"] for name in METRICS}


def of_search(run: RunFolder, space: SearchSpace, search: optuna.Study) -> Iterator[Winner]:
    """The best trial of the search on validation data, then what could take its place.

    That is every report whose weights may be there, the best first. Nothing without a report.
    """

    def made(trial: FrozenTrial, report: dict[str, Any]) -> Winner:
        folder = trial_folder(run.checkpoints, SEARCH, trial.number)
        return Winner(trial.number, space.config(trial.params), folder, report)

    yield from (made(*best) for best in ranked(search, space.objective)[:1])
    left = set(run.checkpoints.names())
    others = [
        (trial, report)
        for trial in search.get_trials(deepcopy=False)
        if trial.state != TrialState.FAIL
        and trial_folder(run.checkpoints, SEARCH, trial.number).name in left
        for report in _best_first(trial, space.objective)
    ]
    cost = space.objective.cost
    yield from (made(*pair) for pair in sorted(others, key=lambda p: cost(p[1]["objective"])))


def _best_first(trial: FrozenTrial, objective: Objective) -> list[dict[str, Any]]:
    known = [r for r in reports_of(trial) if not math.isnan(r["objective"])]
    return sorted(known, key=lambda report: objective.cost(report["objective"]))


def with_weights(winners: Iterable[Winner], note: Callable[[str], None]) -> Winner | None:
    """The first whose weights can be read; where that is not the first of all, `note` says so."""
    lost: Winner | None = None
    for winner in winners:
        try:
            load_weights(winner.folder, winner.report["step"])
        except (OSError, SafetensorError) as error:
            if lost is None:
                note(f"the weights of {_named(winner)} cannot be read ({error})")
            lost = lost or winner
            continue
        if lost is not None:
            note(f"{_named(winner)} is used instead: the best report whose weights can be read")
        return winner
    return None


def _named(winner: Winner) -> str:
    return f"trial {winner.trial} at epoch {winner.report['epoch']:g}"


def in_best(run: RunFolder) -> dict[str, Any]:
    """What metrics.json of best/ says, nothing where there is none or it is damaged."""
    with suppress(BadInput):
        return read_metrics(run.best)
    return {}


def export(
    run: RunFolder, winner: Winner, prepared: Prepared, share: Share, extra: dict[str, Any]
) -> None:
    """Write best/ of one network; `extra` goes into its metrics.json.

    Raises:
        RunFailed: the weights are gone or damaged.
    """
    torch.set_num_threads(share.threads)
    try:
        weights = load_weights(winner.folder, winner.report["step"])
    except (OSError, SafetensorError) as error:
        raise RunFailed(
            f"the weights of trial {winner.trial} cannot be read ({error}); train it again: "
            f"python -m lstmcls.train --data {prepared.folder} --config {run.best_config} --out DIR"
        ) from None
    metrics = {
        "val": winner.val,
        "trial": winner.trial,
        "epoch": winner.report["epoch"],
        "threads": share.threads,
        "device": "cuda" if share.gpu else "cpu",
        **extra,
    }
    save_artifact(
        run.best,
        weights=weights,
        config=winner.config,
        prepared=prepared,
        metrics=metrics,
        title=run.name,
    )


def export_bag(
    run: RunFolder, bag: Bag, prepared: Prepared, share: Share, extra: dict[str, Any]
) -> None:
    """Write best/ of a confirmed winner; `extra` goes into its metrics.json.

    Args:
        extra: `objective` (the metric's name), `test` (from `look_at_test`), `confirmation` (the
            candidates' summaries, the winner's first) and `level` (of their intervals).
    """
    metrics = {
        "out_of_fold": bag.figures,
        "per_class": bag.per_class,
        "trial": bag.trial,
        "epoch": bag.candidate.epochs,
        "threads": share.threads,
        "device": "cuda" if share.gpu else "cpu",
        **extra,
    }
    save_artifact(
        run.best,
        weights=bag.ensemble,
        config=bag.config,
        prepared=prepared,
        metrics=metrics,
        title=run.name,
    )


def write_best_config(run: RunFolder, winner: Winner | Bag, extra: dict[str, Any]) -> None:
    """Write best.yaml, which `lstmcls.train --config` accepts.

    `extra` as for `export` and `export_bag`, and `linear`: what a linear model reaches.
    """
    metric = extra["objective"]
    name = metric.removeprefix("val_")
    head = [f"{run.name}, trial {winner.trial} ({winner.config.variant})"]
    if isinstance(winner, Winner):
        head[0] += f": {metric} {winner.report['objective']:.6f}"
    else:
        found = winner.figures
        head.append(
            f"out of fold: {name} {found[name]:.4f}, {extra['level']:.0%} interval "
            f"{_ends(found[f'{name}_interval'])}, {found['rows']:,} rows in {found['folds']} folds"
        )
    if test := extra.get("test"):
        head.append(
            f"test accuracy {test['accuracy']:.4f}, {extra['level']:.0%} interval "
            f"{_ends(test['accuracy_interval'])}, {test['rows']:,} rows"
        )
        if "difference" in test:
            head.append(
                f"test accuracy against the baseline's: {test['difference']:+.4f}, "
                f"{extra['level']:.0%} interval {_ends(test['difference_interval'], '+')}, "
                "paired by text"
            )
    if linear := extra.get("linear"):
        value = linear[name]
        head.append(f"{name} of a linear model (TF-IDF, logistic regression): {value:.4f}")
        if test := linear.get("test"):
            head.append(
                f"test accuracy of the linear model {test['accuracy']:.4f}; the winner's minus "
                f"this: {test['difference']:+.4f}, {extra['level']:.0%} interval "
                f"{_ends(test['difference_interval'], '+')}, paired by text"
            )
    lines = "".join(f"# {line}\n" for line in head)
    with replacing(run.best_config) as path:
        path.write_text(lines + winner.config.to_yaml(), encoding="utf-8")


def _ends(interval: Sequence[float], sign: str = "") -> str:
    low, high = interval
    return "not defined" if math.isnan(low) else f"[{low:{sign}.4f}, {high:{sign}.4f}]"


def count_looks(confirmation: optuna.Study, bag: Bag) -> int:
    """How many winners of this run were judged on test data, `bag` included; it is recorded.

    One, unless a finished search was resumed and came to another, or to more networks.
    """
    looked = confirmation.user_attrs.get(LOOKED, [])
    this = [bag.trial, bag.ensemble.networks]
    if this not in looked:
        looked = [*looked, this]
        confirmation.set_user_attr(LOOKED, looked)
    confirmation.set_user_attr(LAST, this)
    return len(looked)


def look_at_test(tested: Tested, objective: Objective) -> dict[str, Any]:
    """The figures of the winner on test rows: the METRICS with their intervals, calibration.

    Also the surest mistakes, and with a baseline the difference of accuracies, paired by row.
    """
    ours, labels = tested.ours, tested.labels
    found: dict[str, Any] = {
        "rows": len(labels),
        **classification_metrics(ours, labels),
        "brier": brier_score(ours, labels),
        "calibration_error": expected_calibration_error(ours, labels),
        "confusion": confusion(ours, labels),
        "mistakes": _mistakes(tested),
    }
    for metric in METRICS:
        _, *interval = metric_interval(metric, ours, labels)
        found[f"{metric}_interval"] = interval
    if tested.baseline is not None and tested.of_baseline is not None:
        both, theirs = tested.of_baseline, tested.baseline
        found["baseline_accuracy"] = float((theirs.argmax(axis=1) == labels[both]).mean())
        found |= differences(ours[both], theirs, labels[both], objective)
    return found


def look_at_linear(tested: Tested, objective: Objective) -> dict[str, Any]:
    """The linear model on the same rows, and the winner's accuracy minus its."""
    assert tested.linear is not None
    reached = float((tested.linear.argmax(axis=1) == tested.labels).mean())
    return {
        "accuracy": reached,
        **differences(tested.ours, tested.linear, tested.labels, objective),
    }


def _mistakes(tested: Tested) -> list[list[float]]:
    """[number in the test split, class, probability] of the surest wrong predictions."""
    predicted, surest = tested.ours.argmax(axis=1), tested.ours.max(axis=1)
    wrong = np.flatnonzero(predicted != tested.labels)
    order = wrong[np.argsort(-surest[wrong], kind="stable")][:MISTAKES]
    return [[int(tested.rows[r]), int(predicted[r]), float(surest[r])] for r in order]


def differences(
    ours: Floats, theirs: Floats, labels: NDArray[Any], objective: Objective
) -> dict[str, Any]:
    """The accuracy of `ours` minus that of `theirs` (rows, classes), with its interval.

    And the same of the objective's metric, where that is another.
    """
    right, others = (p.argmax(axis=1) == labels for p in (ours, theirs))
    found = {
        "difference": float(right.mean() - others.mean()),
        "difference_interval": newcombe_paired(right, others),
    }
    metric = objective.metric.removeprefix("val_")
    if metric != "accuracy":
        value, *interval = metric_difference(metric, ours, theirs, labels)
        found |= {f"{metric}_difference": value, f"{metric}_difference_interval": interval}
    return found


def texts_per_second(ensemble: Ensemble, rows: TokenDataset) -> float:
    """How fast the ensemble is here, by its first rows."""
    few = rows.between(0, min(len(rows), TIMED))
    started = time.perf_counter()
    ensemble.row_probabilities(few)
    return round(len(few) / (time.perf_counter() - started), 1)
