"""How sure a figure is: bootstrap over examples, and Student's t over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

RESAMPLES = 2000
LEVEL = 0.95


def bootstrap_mean(
    values: NDArray[Any], seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """The LEVEL percentile interval of the mean of `values` (examples) under resampling.

    For the accuracy of one model, `values` is 1 where it is right. For a paired difference,
    one model's minus the other's on the same examples (Efron & Tibshirani 1993, ch. 13).
    """
    rng = np.random.default_rng(seed)
    distinct, counts = np.unique(values, return_counts=True)
    draws = rng.multinomial(len(values), counts / len(values), size=resamples)
    means = draws @ distinct / len(values)
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """(mean, standard deviation, half width of the LEVEL t interval of the mean).

    With one value the last two are NaN: one run says nothing about its spread.
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, float("nan"), float("nan")
    deviation = float(np.std(values, ddof=1))
    factor = float(stdtrit(len(values) - 1, (1 + LEVEL) / 2))  # Student's t
    return mean, deviation, factor * deviation / len(values) ** 0.5
