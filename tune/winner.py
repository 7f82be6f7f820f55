"""The winner of a run: what it is, its weights, its figures, and the folders that hold it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
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
from lstmcls.dataset import Prepared, TokenDataset, load_prepared
from lstmcls.files import replacing
from lstmcls.fit import judged_rows
from lstmcls.metrics import METRICS, classification_metrics, confusion
from lstmcls.model import LSTMClassifier
from tune.checkpoints import load_weights, trial_folder
from tune.confirm import LAST, LOOKED, Candidate, suggest_run
from tune.intervals import newcombe_paired
from tune.metric_intervals import metric_interval
from tune.resources import Share
from tune.run_folder import RunFolder
from tune.space import Objective, SearchSpace
from tune.store import Store
from tune.study import CONFIRMATION, SEARCH, ranked, reports_of


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


def of_candidate(
    run: RunFolder, space: SearchSpace, candidate: Candidate, confirmation: optuna.Study
) -> Iterator[Winner]:
    """A candidate's reports on fresh seeds, the best first."""
    trials, cost = confirmation.get_trials(deepcopy=False), space.objective.cost
    runs = [
        (trials[number], report)
        for number, _ in candidate.runs
        for report in _best_first(trials[number], space.objective)
    ]
    for trial, report in sorted(runs, key=lambda pair: cost(pair[1]["objective"])):
        config = suggest_run([candidate], optuna.trial.FixedTrial(trial.params))  # type: ignore[arg-type]
        folder = trial_folder(run.checkpoints, CONFIRMATION, trial.number)
        yield Winner(candidate.trial, config, folder, report)


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
    """Write best/; `extra` goes into its metrics.json.

    Args:
        extra: `objective` (the metric's name) and, of a confirmed winner, `test` (from
            `look_at_test`), `confirmation` (the candidates' summaries, the winner's first) and
            `level` (of their intervals).

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


def write_best_config(run: RunFolder, winner: Winner, extra: dict[str, Any]) -> None:
    """Write best.yaml, which `lstmcls.train --config` accepts.

    `extra` as for `export`, and `linear`: what a linear model reaches.
    """
    value, metric = winner.report["objective"], extra["objective"]
    seed = f" on seed {winner.config.seed}" if "test" in extra else ""
    head = (
        f"# {run.name}, trial {winner.trial} ({winner.config.variant}){seed}: "
        f"{metric} {value:.6f}\n"
    )
    if "test" in extra:
        confirmed, test = extra["confirmation"][0], extra["test"]
        several = confirmed["runs"] > 1
        spread = f", standard deviation {confirmed['deviation']:.4f}" if several else ""
        low, high = test["accuracy_interval"]
        head += (
            f"# on {confirmed['runs']} fresh seed{'s' * several}: "
            f"{'mean ' * several}{metric} {confirmed['mean']:.4f}{spread}\n"
            f"# test accuracy {test['accuracy']:.4f}, {extra['level']:.0%} interval "
            f"[{low:.4f}, {high:.4f}], {test['rows']:,} rows\n"
        )
        if "difference" in test:
            low, high = test["difference_interval"]
            head += (
                f"# test accuracy against the baseline's: {test['difference']:+.4f}, "
                f"{extra['level']:.0%} interval [{low:+.4f}, {high:+.4f}], paired by text\n"
            )
    if "linear" in extra:
        value = extra["linear"][metric.removeprefix("val_")]
        head += f"# {metric} of a linear model (TF-IDF, logistic regression): {value:.4f}\n"
        if test := extra["linear"].get("test"):
            low, high = test["difference_interval"]
            head += (
                f"# test accuracy of the linear model {test['accuracy']:.4f}; the winner's minus "
                f"this: {test['difference']:+.4f}, {extra['level']:.0%} interval "
                f"[{low:+.4f}, {high:+.4f}], paired by text\n"
            )
    with replacing(run.best_config) as path:
        path.write_text(head + winner.config.to_yaml(), encoding="utf-8")


def count_looks(confirmation: optuna.Study, winner: Winner) -> int:
    """How many winners of this run were judged on test data, `winner` included; it is recorded.

    One, unless a finished search was resumed and came to another.
    """
    looked = confirmation.user_attrs.get(LOOKED, [])
    this = [winner.trial, winner.config.seed]
    if this not in looked:
        looked = [*looked, this]
        confirmation.set_user_attr(LOOKED, looked)
    confirmation.set_user_attr(LAST, this)
    return len(looked)


@dataclass(frozen=True)
class TestLook:
    """What the winner says of the test rows, and the figures of it for metrics.json."""

    __test__ = False  # for pytest: no test

    rows: TokenDataset
    probabilities: NDArray[np.float32]  # (rows, classes)
    figures: dict[str, Any]


def look_at_test(
    winner: Winner, baseline: Winner | None, prepared: Prepared, share: Share
) -> TestLook:
    """The winner on test data, for the only time: the METRICS, each with its interval, calibration.

    With a baseline, also the difference of accuracies, paired by row.
    """
    test = load_prepared(prepared.folder, ("test",)).splits["test"]
    probabilities = _probabilities(winner, prepared, test, share)
    found: dict[str, Any] = {
        "rows": len(test),
        **classification_metrics(probabilities, test.labels),
        "brier": brier_score(probabilities, test.labels),
        "calibration_error": expected_calibration_error(probabilities, test.labels),
        "confusion": confusion(probabilities, test.labels),
    }
    for metric in METRICS:
        _, *interval = metric_interval(metric, probabilities, test.labels)
        found[f"{metric}_interval"] = interval
    look = TestLook(test, probabilities, found)
    if baseline is not None:
        theirs = _probabilities(baseline, prepared, test, share)
        found["baseline_accuracy"] = float((theirs.argmax(axis=1) == test.labels).mean())
        found |= difference_of_accuracies(look, theirs)
    return look


def difference_of_accuracies(look: TestLook, theirs: NDArray[np.floating[Any]]) -> dict[str, Any]:
    """The winner's test accuracy minus that of `theirs` (rows, classes), with its interval."""
    labels = look.rows.labels
    ours, others = (p.argmax(axis=1) == labels for p in (look.probabilities, theirs))
    return {
        "difference": float(ours.mean() - others.mean()),
        "difference_interval": newcombe_paired(ours, others),
    }


def _probabilities(
    winner: Winner, prepared: Prepared, rows: TokenDataset, share: Share
) -> NDArray[np.float32]:
    torch.set_num_threads(share.threads)
    # The head of a cluster often has no GPU.
    device = torch.device("cuda" if share.gpu and torch.cuda.is_available() else "cpu")
    model = LSTMClassifier(winner.config, prepared.vocab_size, len(prepared.labels))
    model.load_state_dict(load_weights(winner.folder, winner.report["step"]))
    return judged_rows(model.to(device), rows, prepared.max_length)
