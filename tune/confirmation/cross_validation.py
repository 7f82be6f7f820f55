"""How sure out-of-fold figures are, where the rows of one fold were judged by one network.

Every row is judged once, by the network that was trained without it. At each end the interval is
the wider of two:

- of the rows, as on any labelled rows (`metric_intervals`): given the networks they are
  independent. It has some width even where no row is wrong.
- Student's t of the folds' means, with k-1 degrees of freedom: the rows of a fold share a network,
  its seed and its training rows, and what that network is better or worse at.

To the second belongs a correction for the overlap of the training sets, which makes the networks
more alike than new ones would be: the variance of the mean of k networks is (1/k + 1/(k-1)) of
one's in place of 1/k (Nadeau & Bengio 2003, Machine Learning 52, 239-281, section 3; test rows to
training rows are 1 to k-1). It goes to the networks' part of the variance, which is what the
folds' means vary beyond their rows: no two folds share the rows that they judge. No estimate of
the variance of a cross-validation is right for every classifier (Bengio & Grandvalet 2004,
Journal of Machine Learning Research 5, 1089-1105); the tests measure this one.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from tune.influence import Floats
from tune.intervals import LEVEL
from tune.metric_intervals import metric_difference, metric_interval, pseudo_values

FEWEST_FOLDS = 3  # below, the folds say nothing of the networks' spread
Figure = tuple[float, float, float]


def out_of_fold(
    metric: str,
    probabilities: Floats,
    labels: NDArray[Any],
    folds: NDArray[Any],
    level: float = LEVEL,
) -> Figure:
    """(value, low, high) of a metric over all rows, each judged out of fold.

    The value is that of the pooled rows, not the mean over folds, which is off where a fold has
    few rows of a class (Forman & Scholz 2010). With fewer than FEWEST_FOLDS folds low and high
    are NaN.

    Args:
        probabilities: (rows, classes), each row by the network of its fold.
        labels: (rows,) int.
        folds: (rows,) the fold that each row was held out in.
    """
    found = metric_interval(metric, probabilities, labels, level)
    bounds = (0.0, math.inf if metric == "loss" else 1.0)
    return _widened(found, pseudo_values(metric, probabilities, labels), folds, level, bounds)


def out_of_fold_difference(
    metric: str,
    ours: Floats,
    theirs: Floats,
    labels: NDArray[Any],
    folds: NDArray[Any],
    level: float = LEVEL,
) -> Figure:
    """(ours minus theirs, low, high) of a metric, paired by row and by fold.

    As `out_of_fold`. A classifier without a seed, such as a linear model, is judged out of the
    same folds.
    """
    found = metric_difference(metric, ours, theirs, labels, level)
    one, other = (pseudo_values(metric, values, labels) for values in (ours, theirs))
    bounds = (-math.inf, math.inf) if metric == "loss" else (-1.0, 1.0)
    return _widened(found, one - other, folds, level, bounds)


def mean_variance(variance: float, rows_part: float, finished: int, folds: int) -> float:
    """The variance of the mean of `finished` of `folds` folds, the overlap included.

    Args:
        variance: of one fold's mean; `rows_part`: what of it the rows give, the networks the rest.
    """
    return variance / finished + max(0.0, variance - rows_part) / max(1, folds - 1)


def _widened(
    found: Figure, values: Floats, folds: NDArray[Any], level: float, bounds: tuple[float, float]
) -> Figure:
    """`found`, an interval of the rows, as wide at least as the means of `values` say."""
    value, low, high = found
    _, fold, sizes = np.unique(folds, return_inverse=True, return_counts=True)
    count = len(sizes)
    if count < FEWEST_FOLDS:
        return value, math.nan, math.nan
    means = np.bincount(fold, weights=values) / sizes
    within = float(((values - means[fold]) ** 2).sum()) / max(1, len(values) - count)
    rows_part = within * float(np.mean(1 / sizes))
    variance = mean_variance(float(np.var(means, ddof=1)), rows_part, count, count)
    half = float(stdtrit(count - 1, (1 + level) / 2)) * variance**0.5
    return value, max(bounds[0], min(low, value - half)), min(bounds[1], max(high, value + half))
