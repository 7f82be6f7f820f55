"""How much each member of an ensemble says, decided by predictions on rows that it was not
trained on.

A blend is a logarithmic opinion pool: the members' log-probabilities, weighted and added (Genest &
Zidek 1986, section 3). The weights need not add up to 1: their sum is the temperature of the
whole (Guo et al. 2017). They are few, are fitted by the log-loss, and are judged by
cross-fitting: the weights for a fold are those that the other folds ask for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

Floats = NDArray[np.floating[Any]]
Whole = NDArray[np.integer[Any]]
SMALLEST_WEIGHT = 0.02  # of the largest: what says less is left out, for it costs as much as all


@dataclass(frozen=True)
class Blend:
    """The weight of each member, and what the blend says of rows that its members did not see."""

    weights: dict[str, float]
    log_probabilities: Floats  # [rows, classes], cross-fitted


def blended(members: Mapping[str, Floats], weights: Mapping[str, float]) -> Floats:
    """Log-probabilities [rows, classes] of the members with a weight together."""
    total = sum(weights[name] * members[name].astype(np.float64) for name in weights)
    return np.asarray(log_softmax(total, axis=1))


def fit_blend(members: Mapping[str, Floats], labels: Whole, fold_of: Whole) -> Blend:
    """The blend of `members`: out-of-fold log-probabilities [rows, classes] under their names.

    Args:
        labels, fold_of: [rows].
    """
    crossed = np.empty(next(iter(members.values())).shape)
    if len(np.unique(fold_of)) < 2:
        raise ValueError("weights are cross-fitted on two folds or more")
    for fold in np.unique(fold_of):
        held = fold_of == fold
        rest = {name: logs[~held] for name, logs in members.items()}
        weights = fit_weights(rest, labels[~held])
        crossed[held] = blended({name: logs[held] for name, logs in members.items()}, weights)
    return Blend(fit_weights(members, labels), crossed)


def choose_members(
    members: Mapping[str, Floats], labels: Whole, fold_of: Whole, first: str
) -> Blend:
    """The blend of `first` and of those that make it better, the most helpful one first.

    Forward selection (Caruana et al. 2004, section 2) by the cross-fitted log-loss; it ends where
    the gain is no larger than its standard error over rows, for each member costs time in every
    prediction.
    """
    blend = fit_blend({first: members[first]}, labels, fold_of)
    chosen, rest = [first], [name for name in members if name != first]
    while rest:
        tried = {
            name: fit_blend({n: members[n] for n in [*chosen, name]}, labels, fold_of)
            for name in rest
        }
        name = min(tried, key=lambda name: row_losses(tried[name], labels).mean())
        gain = row_losses(blend, labels) - row_losses(tried[name], labels)
        if not gain.mean() > gain.std() / len(gain) ** 0.5:
            break
        blend = tried[name]
        chosen.append(name)
        rest.remove(name)
    return blend


def row_losses(blend: Blend, labels: Whole) -> Floats:
    """The cross-fitted log-loss of each row."""
    losses: Floats = -blend.log_probabilities[np.arange(len(labels)), labels]
    return losses


def fit_weights(members: Mapping[str, Floats], labels: Whole) -> dict[str, float]:
    """The non-negative weights of the least log-loss; a member that says next to nothing has none.

    The loss is convex in the weights, so that there is one answer.
    """
    names = list(members)
    stacked = np.stack([members[name].astype(np.float64) for name in names])
    chosen = stacked[:, np.arange(len(labels)), labels].mean(axis=1)

    def loss(weights: Floats) -> tuple[float, Floats]:
        logs = np.tensordot(weights, stacked, axes=1)
        normalised = log_softmax(logs, axis=1)
        value = -normalised[np.arange(len(labels)), labels].mean()
        expected = (stacked * softmax(logs, axis=1)).sum(axis=2).mean(axis=1)
        return float(value), expected - chosen

    start = np.full(len(names), 1 / len(names))
    found = minimize(loss, start, jac=True, bounds=[(0.0, None)] * len(names), method="L-BFGS-B").x
    if not found.max() > 0:  # worse than saying nothing: all alike
        found = start
    return {
        name: float(weight)
        for name, weight in zip(names, found, strict=True)
        if weight >= SMALLEST_WEIGHT * found.max()
    }
