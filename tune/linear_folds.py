"""The linear model on the same folds as the networks: what it says of rows it was not trained on.

It trains in seconds, one Ray task for each fold, and is a member of the exported ensemble where it
makes it better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import ray
from numpy.typing import NDArray
from torch import Tensor

from lstmcls.folds import Folds
from lstmcls.linear import STRENGTHS, LinearModel, fit_linear, fit_linear_path
from lstmcls.metrics import classification_metrics

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class LinearFolds:
    """Log-probabilities [rows, classes] of each fold's held-out rows, and the strength chosen."""

    strength: float
    held_out: tuple[Floats, ...]

    def logs(self, folds: Sequence[int]) -> Floats:
        """[rows, classes] of these folds' rows, one fold after the other."""
        return np.concatenate([self.held_out[fold] for fold in folds])


class PendingLinear:
    """The linear model in training, in Ray's workers; it needs `Folds.train` of all `count` folds.

    Args:
        cpus: that a task is given.
    """

    def __init__(self, folds: Folds, count: int, classes: int, cpus: float) -> None:
        self._labels = np.concatenate([folds.held_out(fold).labels for fold in range(count)])
        self._classes, self._data = classes, ray.put(folds)
        task = ray.remote(num_cpus=cpus)(_held_out_path)
        self._paths = [task.remote(self._data, fold, classes) for fold in range(count)]
        self._whole = ray.remote(num_cpus=cpus)(_whole_model)

    def result(self) -> tuple[LinearFolds, LinearModel]:
        """What it says out of fold, and the model of all rows; waits for them.

        Of STRENGTHS the one with the least log-loss out of fold.
        """
        paths = ray.get(self._paths)

        def loss(strength: int) -> float:
            logs = np.concatenate([path[strength] for path in paths])
            return classification_metrics(np.exp(logs), self._labels)["loss"]

        best = min(range(len(STRENGTHS)), key=loss)
        chosen = LinearFolds(STRENGTHS[best], tuple(path[best] for path in paths))
        state = ray.get(self._whole.remote(self._data, self._classes, chosen.strength))
        return chosen, LinearModel.of(state)


def _held_out_path(folds: Folds, fold: int, classes: int) -> list[Floats]:
    """Of each of STRENGTHS: what the model without `fold` says of its rows."""
    held_out = folds.held_out(fold)
    return [model.logits(held_out) for model in fit_linear_path(folds.train(fold), classes)]


def _whole_model(folds: Folds, classes: int, strength: float) -> dict[str, Tensor]:
    """The `state_dict()` of the model of all rows."""
    model = fit_linear(folds.rows.between(0, folds.size), classes, strength)
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}
