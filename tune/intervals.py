"""How sure a figure is: intervals of proportions, of their paired difference, and of means.

All are in closed form: the same figures give the same interval, without a seed. How often each
holds the truth is measured in the tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

LEVEL = 0.95

Interval = tuple[float, float]


def wilson(successes: float, rows: float, level: float = LEVEL) -> Interval:
    """The score interval of a proportion (Wilson 1927); (0, 1) without rows.

    Right on average over proportions, not for each: its coverage falls to 0.84 where a proportion
    is within a row or two of 0 or 1. A figure by itself is stated with `agresti_coull`; this is
    what `newcombe_paired` is built from.
    """
    if rows <= 0:
        return 0.0, 1.0
    z2 = _normal(level) ** 2
    share = successes / rows
    centre = (share + z2 / (2 * rows)) / (1 + z2 / rows)
    half = np.sqrt(z2 * (share * (1 - share) / rows + z2 / (4 * rows**2))) / (1 + z2 / rows)
    # Never past the share itself, as rounding might be at 0 and 1.
    return float(min(share, max(0.0, centre - half))), float(max(share, min(1.0, centre + half)))


def agresti_coull(successes: float, rows: float, level: float = LEVEL) -> Interval:
    """The adjusted interval of a proportion (Agresti & Coull 1998); (0, 1) without rows.

    Around Wilson's centre and never shorter than Wilson's. From 10 rows on its coverage is at
    least 0.92 whatever the proportion, where Wilson's falls to 0.84 (Brown, Cai & DasGupta 2001,
    section 4); the width is the same to 2 % from 200 rows on.
    """
    if rows <= 0:
        return 0.0, 1.0
    z = _normal(level)
    adjusted = rows + z**2
    centre = (successes + z**2 / 2) / adjusted
    half = z * np.sqrt(centre * (1 - centre) / adjusted)
    return float(max(0.0, centre - half)), float(min(1.0, centre + half))


def newcombe_paired(
    ours_right: NDArray[Any], theirs_right: NDArray[Any], level: float = LEVEL
) -> Interval:
    """The interval of the difference of two accuracies on the same rows, ours minus theirs.

    Newcombe 1998 (Statistics in Medicine 17, 2635-2650), method 10: the score intervals of both,
    squared and added, with their correlation phi corrected for continuity. Equal answers have an
    interval of some width too.

    Args:
        ours_right, theirs_right: (rows,) bool, or 0 and 1.
    """
    ours, theirs = np.asarray(ours_right, bool), np.asarray(theirs_right, bool)
    rows = len(ours)
    both, neither = float((ours & theirs).sum()), float((~ours & ~theirs).sum())
    only_ours, only_theirs = float((ours & ~theirs).sum()), float((~ours & theirs).sum())
    numerator = both * neither - only_ours * only_theirs
    if numerator > 0:
        numerator = max(0.0, numerator - rows / 2)
    squares = float(ours.sum() * (~ours).sum()) * float(theirs.sum() * (~theirs).sum())
    phi = numerator / squares**0.5 if squares else 0.0
    return square_and_add(
        (float(ours.mean()), *wilson(ours.sum(), rows, level)),
        (float(theirs.mean()), *wilson(theirs.sum(), rows, level)),
        phi,
    )


def square_and_add(
    ours: tuple[float, float, float], theirs: tuple[float, float, float], correlation: float
) -> Interval:
    """The interval of the difference of two figures, each (value, low, high), from their own.

    Zou & Donner 2008 (Statistics in Medicine 27, 1693-1702), section 2; `correlation` is that of
    the two estimates.
    """
    value, low, high = ours
    other, other_low, other_high = theirs
    return (
        value - other - _hypotenuse(value - low, other_high - other, correlation),
        value - other + _hypotenuse(high - value, other - other_low, correlation),
    )


def _hypotenuse(a: float, b: float, correlation: float) -> float:
    return float(np.sqrt(max(a * a - 2 * correlation * a * b + b * b, 0.0)))


def row_mean(values: NDArray[Any], level: float = LEVEL) -> tuple[float, float, float]:
    """(mean, low, high) of what may be skewed, such as the rows' losses, or their differences.

    At either end the wider of Student's t and of the same after Hall's monotone cubic, which takes
    the skewness out (Hall 1992, Journal of the Royal Statistical Society B 54, 221-228): the first
    holds for differences, whose few large ones mislead the second, the second for losses. With
    one value low and high are NaN.
    """
    mean, rows = float(np.mean(values)), len(values)
    if rows < 2:
        return mean, float("nan"), float("nan")
    deviation = float(np.std(values, ddof=1))
    if deviation == 0:
        return mean, mean, mean
    skewness = float(np.mean((np.asarray(values) - mean) ** 3)) / deviation**3 / rows**0.5
    quantile = float(stdtrit(rows - 1, (1 + level) / 2))
    error = deviation / rows**0.5
    low = mean - max(quantile, _without_skewness(quantile, skewness)) * error
    high = mean + max(quantile, -_without_skewness(-quantile, skewness)) * error
    return mean, low, high


def _without_skewness(quantile: float, skewness: float) -> float:
    """The inverse of Hall's cubic; `skewness`: of one row, over the root of the rows."""
    if abs(skewness) < 1e-6:  # where it is the identity, to the digits of a float
        return quantile
    inner = 1 + skewness * (quantile - skewness / 6)
    return float(3 / skewness * (np.cbrt(inner) - 1))


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


def _normal(level: float) -> float:
    return float(ndtri((1 + level) / 2))
