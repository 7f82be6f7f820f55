"""The linear model on the same folds as the networks: what it says of rows it was not trained on.

It trains in seconds, or minutes where there are many classes, one Ray task for each fold, and is a
member of the exported ensemble where it makes it better.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import ray
from numpy.typing import NDArray
from torch import Tensor

from lstmcls.ensemble import log_probabilities
from lstmcls.folds import Folds
from lstmcls.linear import STRENGTHS, LinearModel, fit_linear, fit_linear_path
from lstmcls.metrics import classification_metrics

Floats = NDArray[np.float32]

CHOOSING = 6_000  # training rows at most by which the strength is chosen
SHARE = 0.3  # of the time that the linear model may take
FEWEST = 2  # folds by which its weight in an ensemble can be found


@dataclass(frozen=True)
class LinearFolds:
    """Log-probabilities [rows, classes] of the held-out rows of the first folds."""

    strength: float
    held_out: tuple[Floats, ...]
    test: tuple[Floats, ...] = ()  # of the test rows in these folds

    def test_logs(self, folds: Sequence[int]) -> Floats:
        """[rows, classes] of the test rows in these folds, one fold after the other."""
        return np.concatenate([self.test[fold] for fold in folds])

    def logs(self, folds: Sequence[int]) -> Floats:
        """[rows, classes] of these folds' rows, one fold after the other."""
        return np.concatenate([self.held_out[fold] for fold in folds])


class PendingLinear:
    """The linear model in training, in Ray's workers, which it takes before others do.

    Its strength, the inverse of the regularization, is chosen first, by the log-loss on fold 0;
    that is waited for. Where there is little time it is trained on fewer folds.

    Args:
        count: folds, all of which `folds.train` knows.
        cpus: that a task is given; `slots`: how many there is room for at a time.
        seconds: that are left; None: without end.
    """

    def __init__(
        self,
        folds: Folds,
        count: int,
        classes: int,
        cpus: float,
        slots: int,
        seconds: float | None,
    ) -> None:
        data = ray.put(folds)
        choose, held_out, whole = (
            ray.remote(num_cpus=cpus)(task) for task in (_losses, _held_out, _whole_model)
        )
        groups = [STRENGTHS[k::slots] for k in range(min(slots, len(STRENGTHS)))]
        found = ray.get([choose.remote(data, classes, group) for group in groups])
        losses = {strength: loss for part, _ in found for strength, loss in part.items()}
        self.strength = min(losses, key=lambda strength: losses[strength])
        took = max(seconds_of_one for _, seconds_of_one in found)
        rows = len(folds.train(0))
        took *= rows / min(rows, CHOOSING)
        self.folds = count
        if seconds is not None:
            fitting = SHARE * seconds * slots / max(took, 1e-9)
            self.folds = min(count, int(fitting) - 1)
        self._held_out = [
            held_out.remote(data, fold, classes, self.strength) for fold in range(self.folds)
        ]
        self._whole = whole.remote(data, classes, self.strength) if self.enough else None

    @property
    def enough(self) -> bool:
        return self.folds >= FEWEST

    def result(self) -> tuple[LinearFolds, LinearModel]:
        """What it says out of fold, and the model of all rows; waits for them."""
        held_out, test = zip(*ray.get(self._held_out), strict=True)
        said = LinearFolds(self.strength, held_out, test)
        return said, LinearModel.of(ray.get(self._whole))


def _losses(
    folds: Folds, classes: int, strengths: Sequence[float]
) -> tuple[dict[float, float], float]:
    """The log-loss on fold 0 of each strength, and the seconds that one model takes."""
    started, train, held_out = time.monotonic(), folds.train(0), folds.held_out(0)
    if len(train) > CHOOSING:  # at random: within a fold rows lie as in the file, often by class
        train = train.chosen(np.random.default_rng(0).permutation(len(train))[:CHOOSING])
    losses = {}
    for strength, model in zip(strengths, fit_linear_path(train, classes, strengths), strict=True):
        found = classification_metrics(np.exp(model.logits(held_out)), held_out.labels)
        losses[strength] = found["loss"]
    return losses, (time.monotonic() - started) / len(strengths)


def _held_out(folds: Folds, fold: int, classes: int, strength: float) -> tuple[Floats, Floats]:
    """What the model without `fold` says of its rows, and of those of the test split."""
    model = fit_linear(folds.train(fold), classes, strength)
    held_out, test = (
        log_probabilities(model, rows, 0) for rows in (folds.held_out(fold), folds.test(fold))
    )
    return held_out, test


def _whole_model(folds: Folds, classes: int, strength: float) -> dict[str, Tensor]:
    """The `state_dict()` of the model of all rows."""
    model = fit_linear(folds.rows.between(0, folds.size), classes, strength)
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}
