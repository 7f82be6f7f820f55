"""Out-of-fold intervals, by hand and by how often they hold the truth."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tune.confirmation.cross_validation import (
    FEWEST_FOLDS,
    mean_variance,
    out_of_fold,
    out_of_fold_difference,
)
from tune.metric_intervals import metric_interval

Array = NDArray[Any]


def answers(right: Array, labels: Array) -> Array:
    """Probabilities of two classes whose argmax is the label where `right`."""
    return np.eye(2)[np.where(right, labels, 1 - labels)] * 0.8 + 0.1


def networks(rng: np.random.Generator, folds: int, deviation: float) -> Array:
    """(folds,) what each network is better at, correlated 1 / folds as Nadeau & Bengio say."""
    own = math.sqrt(1 - 1 / folds) * rng.normal(size=folds)
    effects: Array = deviation * (math.sqrt(1 / folds) * rng.normal() + own)
    return effects


def test_without_a_difference_of_folds_it_is_the_interval_of_the_rows() -> None:
    labels, folds = np.arange(200) % 2, np.arange(200) // 40
    right = np.arange(200) % 40 >= 4  # 36 of 40 in every fold
    found = out_of_fold("accuracy", answers(right, labels), labels, folds)
    assert found == metric_interval("accuracy", answers(right, labels), labels)


def test_folds_that_differ_widen_it_by_students_t() -> None:
    labels, folds = np.arange(2000) % 2, np.arange(2000) // 500
    right = np.arange(2000) % 500 >= np.array([20, 60, 100, 140])[folds]
    value, low, high = out_of_fold("accuracy", answers(right, labels), labels, folds)
    means = np.array([0.96, 0.88, 0.80, 0.72])
    within = (means * (1 - means)).mean() * 500 / 499 / 500
    variance = means.var(ddof=1) / 4 + (means.var(ddof=1) - within) / 3
    assert value == pytest.approx(0.84)
    assert low == pytest.approx(0.84 - 3.182446 * math.sqrt(variance))  # t(0.975; 3)
    assert high == 1.0
    assert mean_variance(means.var(ddof=1), within, 4, 4) == pytest.approx(variance)


def test_no_errors_leave_some_width() -> None:
    labels, folds = np.arange(50) % 2, np.arange(50) % 5
    value, low, high = out_of_fold("f1", answers(np.ones(50, bool), labels), labels, folds)
    assert (value, high) == (1, 1)
    assert 0.85 < low < 0.95
    same = answers(np.arange(50) > 5, labels)
    zero, low, high = out_of_fold_difference("f1", same, same, labels, folds)
    assert zero == 0
    assert low < -0.01
    assert high > 0.01


def test_two_folds_say_nothing_of_the_networks() -> None:
    labels, folds = np.arange(40) % 2, np.arange(40) % (FEWEST_FOLDS - 1)
    right = np.arange(40) > 3
    value, low, high = out_of_fold("accuracy", answers(right, labels), labels, folds)
    assert value == 0.9
    assert math.isnan(low)
    assert math.isnan(high)


@pytest.mark.parametrize("metric", ["loss", "f1", "roc_auc"])
def test_any_metric_and_folds_of_unlike_sizes(metric: str) -> None:
    rng = np.random.default_rng(0)
    labels, folds = rng.integers(0, 3, 120), rng.choice(4, 120, p=[0.1, 0.2, 0.3, 0.4])
    ours, theirs = (rng.dirichlet(np.ones(3), 120) + np.eye(3)[labels] * k for k in (0.8, 0.4))
    ours, theirs = ours / 1.8, theirs / 1.4
    value, low, high = out_of_fold(metric, ours, labels, folds)
    assert low < value < high
    gain, low, high = out_of_fold_difference(metric, ours, theirs, labels, folds)
    assert low < gain < high
    turned = out_of_fold_difference(metric, theirs, ours, labels, folds)
    assert turned == pytest.approx((-gain, -high, -low))


@pytest.mark.parametrize(
    ("folds", "rows", "deviation"),
    [(5, 100, 0.0), (5, 500, 0.01), (5, 2000, 0.01), (3, 500, 0.01), (10, 500, 0.02)],
)
def test_coverage(folds: int, rows: int, deviation: float) -> None:
    """Accuracies of 0.9 and 0.88 whose networks vary by `deviation`; 70 % of answers in common."""
    rng, held = np.random.default_rng(1), np.zeros(2)
    labels, draws = np.arange(rows) % 2, 300
    for _ in range(draws):
        fold = rng.permutation(np.arange(rows) % folds)
        ours = rng.random(rows) < 0.9 + networks(rng, folds, deviation)[fold]
        other = rng.random(rows) < 0.88 + networks(rng, folds, deviation)[fold]
        theirs = np.where(rng.random(rows) < 0.7, ours, other)
        one, two = answers(ours, labels), answers(theirs, labels)
        _, low, high = out_of_fold("accuracy", one, labels, fold)
        _, lower, upper = out_of_fold_difference("accuracy", one, two, labels, fold)
        held += low <= 0.9 <= high, lower <= 0.3 * 0.02 <= upper
    assert (held / draws >= 0.93).all(), held / draws
    assert (held / draws <= 0.997).all(), held / draws
