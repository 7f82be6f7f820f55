"""What a confirmed search exports: the networks of the winner's folds together.

Each was trained without its fold, and their average is better than any of them. The networks of
other finalists and a linear model join where that makes it better out of fold.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from scipy.special import softmax

from lstmcls.blend import SMALLEST_WEIGHT, Blend, blended, choose_members
from lstmcls.calibration import (
    best_offsets,
    brier_score,
    expected_calibration_error,
    reliability,
)
from lstmcls.cli import BadInput
from lstmcls.config import TrainConfig
from lstmcls.dataset import Prepared
from lstmcls.ensemble import Ensemble, Member, network_of
from lstmcls.linear import LinearModel
from lstmcls.metrics import METRICS, classification_metrics, per_class
from lstmcls.model import LSTMClassifier
from tune.checkpoints import load_weights, trial_folder
from tune.confirmation.candidates import Candidate
from tune.confirmation.cross_validation import out_of_fold
from tune.confirmation.linear_folds import LinearFolds
from tune.confirmation.out_of_fold import OutOfFold, common_folds
from tune.confirmation.plan import FEWEST
from tune.run_folder import RunFolder
from tune.study import CONFIRMATION

LINEAR = "linear"  # its name among the members

Network = tuple[TrainConfig, LSTMClassifier]
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Tested:
    """What is said of rows of the test split by classifiers that were not trained on them.

    Probabilities [rows, classes], of the baseline those of some rows alone.
    """

    rows: NDArray[np.int64]  # their numbers in the test split
    labels: NDArray[np.int32]
    ours: Floats
    linear: Floats | None = None
    baseline: Floats | None = None
    of_baseline: NDArray[np.bool_] | None = None  # [rows] those of the baseline


@dataclass(frozen=True)
class Bag:
    """The winner of a confirmation, ready to export."""

    candidate: Candidate
    ensemble: Ensemble
    figures: dict[str, Any]  # out of fold, for metrics.json
    per_class: dict[str, dict[str, float]]
    folds: tuple[int, ...] = ()  # on which its members are compared
    tested: Tested | None = None  # None: no network was trained on test rows, and all may judge

    @property
    def trial(self) -> int:
        """The configuration's number in the search."""
        return self.candidate.trial

    @property
    def config(self) -> TrainConfig:
        """Of the first network."""
        return next(m.config for m in self.ensemble.members if m.config is not None)

    @property
    def confirmed(self) -> bool:
        return len(self.candidate.runs) >= FEWEST


def with_networks(
    run: RunFolder, prepared: Prepared, candidates: Sequence[Candidate], note: Callable[[str], None]
) -> tuple[list[Candidate], dict[int, list[Network]]]:
    """The candidates that have networks, and these; a run whose weights are lost is left out."""
    sizes = prepared.vocab_size, len(prepared.labels)
    kept, networks = [], dict[int, list[Network]]()
    for candidate in candidates:
        runs = {}
        for fold, ran in candidate.runs.items():
            config = dataclasses.replace(candidate.final, seed=ran.seed)
            folder = trial_folder(run.checkpoints, CONFIRMATION, ran.number)
            try:
                network = network_of(config, *sizes, load_weights(folder, ran.report["step"]))
            except (OSError, SafetensorError, BadInput) as error:
                note(
                    f"the weights of run {ran.number} of the confirmation cannot be read ({error})"
                )
                continue
            runs[fold] = ran
            networks.setdefault(candidate.trial, []).append((config, network))
        if runs:
            kept.append(dataclasses.replace(candidate, runs=runs))
    return kept, networks


def networks_alone(networks: Sequence[Network], max_length: int) -> Ensemble:
    """One candidate's networks, averaged."""
    members = [Member(1 / len(networks), config) for config, _ in networks]
    return Ensemble(members, [network for _, network in networks], (), max_length)


def make_bag(
    finalists: Sequence[Candidate],
    networks: Mapping[int, Sequence[Network]],
    found: OutOfFold,
    linear: tuple[LinearFolds, LinearModel] | None,
    prepared: Prepared,
) -> Bag:
    """The best ensemble of the winner, the first of `finalists`, and who makes it better.

    Args:
        finalists: with networks, all on two folds in common or more.
        networks: by candidate.
        linear: the linear model out of fold, and that of all rows.
    """
    folds, winner = common_folds(finalists), finalists[0]
    if linear is not None:
        both = [fold for fold in folds if fold < len(linear[0].held_out)]
        linear, folds = (linear, both) if len(both) > 1 else (None, folds)
    labels, fold_of = found.labels(folds), found.fold_of(folds)
    said: dict[str, Floats] = {str(c.trial): found.logs(c, folds) for c in finalists}
    if linear is not None:
        said[LINEAR] = linear[0].logs(folds)
    blend = choose_members(said, labels, fold_of, str(winner.trial))
    weights = {str(winner.trial): SMALLEST_WEIGHT * max(blend.weights.values()), **blend.weights}
    by_f1 = found.objective.metric == "val_f1"
    offsets = best_offsets(blend.log_probabilities, labels) if by_f1 else ()
    judged = _with_offsets(blend, labels, fold_of) if by_f1 else blend.log_probabilities
    figures = _figures(judged, labels, fold_of)
    alone = softmax(said[str(winner.trial)], axis=1)
    figures |= {
        "folds": len(folds),
        "trained_on_test": bool(found.folds.tested),
        "members": {name: round(weight, 4) for name, weight in weights.items()},
        "networks_alone": _calibration(alone, labels) | classification_metrics(alone, labels),
    }
    if by_f1:
        without = classification_metrics(np.exp(blend.log_probabilities), labels)
        figures["without_offsets"] = without
    table = per_class(softmax(judged, axis=1), labels, prepared.labels)
    members, classifiers = _members(weights, networks, linear)
    ensemble = Ensemble(members, classifiers, tuple(offsets), prepared.max_length)
    figures["networks"] = ensemble.networks
    figures["bytes"] = sum(tensor.nbytes for tensor in ensemble.state_dict().values())
    tested = None
    if found.folds.tested:
        tested = _tested(found, finalists, linear and linear[0], folds, weights, offsets)
    return Bag(winner, ensemble, figures, table, tuple(folds), tested)


def _members(
    weights: Mapping[str, float],
    networks: Mapping[int, Sequence[Network]],
    linear: tuple[LinearFolds, LinearModel] | None,
) -> tuple[list[Member], list[LSTMClassifier | LinearModel]]:
    """Who is in the ensemble: the networks of a candidate share its weight."""
    members: list[Member] = []
    classifiers: list[LSTMClassifier | LinearModel] = []
    for name, weight in weights.items():
        if name == LINEAR:
            assert linear is not None
            members.append(Member(weight, None))
            classifiers.append(linear[1])
            continue
        mine = networks[int(name)]
        members += [Member(weight / len(mine), config) for config, _ in mine]
        classifiers += [network for _, network in mine]
    return members, classifiers


def linear_offsets(found: OutOfFold, linear: LinearFolds) -> Floats:
    """[classes] what a macro F1 asks to be added to its log-probabilities; else zeros."""
    if found.objective.metric != "val_f1":
        return np.zeros(linear.held_out[0].shape[1])
    folds = list(range(len(linear.held_out)))
    return best_offsets(linear.logs(folds), found.labels(folds))


def _tested(
    found: OutOfFold,
    finalists: Sequence[Candidate],
    linear: LinearFolds | None,
    folds: Sequence[int],
    weights: Mapping[str, float],
    offsets: Sequence[float] | Floats,
) -> Tested:
    """The exported blend on the test rows of these folds, each by the networks without its fold."""
    said: dict[str, Floats] = {str(c.trial): found.test_logs(c, folds) for c in finalists}
    theirs = None
    if linear is not None:
        said[LINEAR] = linear.test_logs(folds)
        theirs = softmax(said[LINEAR] + linear_offsets(found, linear), axis=1)
    total = blended(said, weights) + (np.asarray(offsets) if len(offsets) else 0.0)
    return Tested(
        np.concatenate([found.folds.origin[fold] for fold in folds]),
        np.concatenate([found.folds.test(fold).labels for fold in folds]),
        softmax(total, axis=1),
        theirs,
    )


def _with_offsets(blend: Blend, labels: NDArray[Any], fold_of: NDArray[Any]) -> Floats:
    """The log-probabilities plus the offsets that the other folds ask for."""
    shifted: Floats = blend.log_probabilities.copy()
    for fold in np.unique(fold_of):
        held = fold_of == fold
        shifted[held] += best_offsets(blend.log_probabilities[~held], labels[~held])
    return shifted


def _figures(logs: Floats, labels: NDArray[Any], fold_of: NDArray[Any]) -> dict[str, Any]:
    probabilities = softmax(logs, axis=1)
    figures: dict[str, Any] = {
        "rows": len(labels),
        **classification_metrics(probabilities, labels),
        **_calibration(probabilities, labels),
    }
    for metric in METRICS:
        _, *interval = out_of_fold(metric, probabilities, labels, fold_of)
        figures[f"{metric}_interval"] = interval
    return figures


def _calibration(probabilities: Floats, labels: NDArray[Any]) -> dict[str, Any]:
    return {
        "reliability": reliability(probabilities, labels),
        "brier": brier_score(probabilities, labels),
        "calibration_error": expected_calibration_error(probabilities, labels),
    }
