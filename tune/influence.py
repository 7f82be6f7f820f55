"""How much each row counts in a metric: its influence function, which gives the metric's variance.

A metric is taken as a function of a distribution: of the mass on each pair of a row's
probabilities and a class as its label. Its derivative towards one such pair is the pair's
influence; the variance of the metric on n rows is that of the influence, over n (Hampel 1974;
for AUC it is DeLong's, 1988). A macro average, which is no mean over rows, is so made one: of its
pseudo-values, the metric plus each row's influence.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

SMALLEST = 1e-12  # probability, as in lstmcls.metrics
# numerator = first * right; denominator = second * rows of the class + third * rows predicted.
MACRO = {"precision": (1, 0, 1), "recall": (1, 1, 0), "f1": (2, 1, 1)}

Floats = NDArray[np.floating[Any]]


class Influence(NamedTuple):
    """A metric's value and the influence of every (row, class): of the row, were that its label."""

    value: float
    pairs: Floats  # (rows, classes)


def observed(labels: NDArray[Any], classes: int) -> Floats:
    """The mass (rows, classes) of the rows as they are: equal, on each row's own label."""
    mass = np.zeros((len(labels), classes))
    mass[np.arange(len(labels)), labels] = 1 / len(labels)
    return mass


def smoothed(probabilities: Floats, labels: NDArray[Any], extra: float) -> tuple[Floats, Floats]:
    """The rows and K more, sure of each of the K classes in turn, and the mass on all of them.

    Each class has `extra` rows more, half of them right, the rest spread over the wrong classes;
    its share of the whole stays as it is. With that no class is without errors or without hits,
    and so no variance is 0, least of all where a class has few rows.
    """
    classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=classes)
    share, own = counts / len(labels), counts / (counts + extra)
    answers = np.full((classes, classes), 0.5 / (classes - 1))  # (answer, class)
    np.fill_diagonal(answers, 0.5)
    rows = observed(labels, classes) * own
    return (
        np.concatenate([probabilities, np.eye(classes)]),
        np.concatenate([rows, answers * share * (1 - own)]),
    )


def influence(metric: str, probabilities: Floats, mass: Floats) -> Influence:
    """The value of one of `lstmcls.metrics.METRICS` and its influence, under `mass`.

    As in `classification_metrics`, but not rounded: macro averages over all classes, what has no
    rows counts as 0, and ROC AUC is NaN where a class has no mass.
    """
    probabilities = np.asarray(probabilities, np.float64)
    if metric == "loss":
        return _mean(-np.log(np.maximum(probabilities, SMALLEST)), mass)
    if metric == "roc_auc":
        return _roc_auc(probabilities, mass)
    predicted = probabilities.argmax(axis=1)
    classes = np.arange(probabilities.shape[1])
    if metric == "accuracy":
        return _mean((predicted[:, None] == classes).astype(float), mass)
    return _ratios(MACRO[metric], predicted, mass)


def _mean(scores: Floats, mass: Floats) -> Influence:
    value = float((scores * mass).sum())
    return Influence(value, scores - value)


def _ratios(ratio: tuple[int, int, int], predicted: NDArray[Any], mass: Floats) -> Influence:
    """The mean over classes of a class's numerator / denominator."""
    classes = mass.shape[1]
    cells = np.zeros((classes, classes))  # (predicted, true)
    np.add.at(cells, predicted, mass)
    right, of_true, of_predicted = ratio
    denominators = of_true * cells.sum(axis=0) + of_predicted * cells.sum(axis=1)
    inverse = np.divide(1, denominators, out=np.zeros(classes), where=denominators > 0)
    values = right * cells.diagonal() * inverse
    slope = values * inverse  # of a class's ratio, against its denominator
    by_cell = np.diag(right * inverse) - of_true * slope - of_predicted * slope[:, None]
    return Influence(float(values.mean()), by_cell[predicted] / classes)


def _roc_auc(probabilities: Floats, mass: Floats) -> Influence:
    """One class against the rest, mean over the classes (two classes: the second's scores)."""
    classes = mass.shape[1]
    scores = probabilities / probabilities.sum(axis=1, keepdims=True)
    if classes == 2:
        scores = np.stack([-scores[:, 1], scores[:, 1]], axis=1)
    areas, pairs = np.empty(classes), np.zeros(mass.shape)
    for k in range(classes):
        positive = mass[:, k]
        negative = mass.sum(axis=1) - positive
        if not (positive.sum() > 0 and negative.sum() > 0):
            return Influence(float("nan"), np.full(mass.shape, np.nan))
        above = _beaten(scores[:, k], negative)
        below = 1 - _beaten(scores[:, k], positive)
        areas[k] = (positive * above).sum() / positive.sum()
        against = (below - areas[k]) / negative.sum()
        pairs += against[:, None]
        pairs[:, k] += (above - areas[k]) / positive.sum() - against
    return Influence(float(areas.mean()), pairs / classes)


def _beaten(scores: Floats, mass: Floats) -> Floats:
    """(rows,) the share of `mass` with a lower score; of an equal one, half."""
    _, place = np.unique(scores, return_inverse=True)
    at = np.bincount(place, weights=mass)
    lower: Floats = (np.cumsum(at) - at / 2)[place] / mass.sum()
    return lower
