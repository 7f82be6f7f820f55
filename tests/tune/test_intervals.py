"""Intervals against published values and scipy's, and by how often they hold the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from tune.intervals import (
    LEVEL,
    agresti_coull,
    mean_interval,
    newcombe_paired,
    row_mean,
    wilson,
)

VALUES = st.lists(st.floats(-1, 1).map(lambda v: round(v, 3)), min_size=2, max_size=12)
COUNTS = st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def paired(both: int, ours: int, theirs: int, neither: int) -> tuple[NDArray[np.bool_], ...]:
    """The answers of two classifiers, from the counts of the rows that each has right."""
    pairs = [(True, True)] * both + [(True, False)] * ours
    pairs += [(False, True)] * theirs + [(False, False)] * neither
    return tuple(np.array(pairs).T)


# A proportion.


@settings(deadline=None)
@given(COUNTS)
def test_wilson_is_scipys(counts: tuple[int, int]) -> None:
    theirs = stats.binomtest(*counts).proportion_ci(LEVEL, method="wilson")
    assert wilson(*counts) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@settings(deadline=None)
@given(COUNTS, st.floats(0.5, 0.999))
def test_a_proportion_lies_in_its_interval(counts: tuple[int, int], level: float) -> None:
    low, high = wilson(*counts, level)
    assert 0 <= low <= counts[0] / counts[1] <= high <= 1
    assert low < high
    wider = agresti_coull(*counts, level)
    assert wider[0] <= low + 1e-12
    assert wider[1] >= high - 1e-12


def test_agresti_coull_by_hand() -> None:
    # Two successes and two failures more, nearly: z squared is 3.84.
    assert agresti_coull(8, 10) == pytest.approx((0.4794, 0.9541), abs=1e-4)
    assert agresti_coull(20, 20)[1] == 1.0
    assert agresti_coull(20, 20)[0] == pytest.approx(0.8100, abs=1e-3)


def test_without_rows_nothing_is_known() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert agresti_coull(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("rows", [10, 20, 50, 200, 1000])
def test_coverage_of_a_proportion_is_exact(rows: int) -> None:
    """Of every proportion from 0.5 on, summed over all outcomes: nothing is drawn."""
    successes, shares = np.arange(rows + 1), np.linspace(0.5, 0.99, 491)
    chance = stats.binom.pmf(successes[:, None], rows, shares)

    def coverage(function: object) -> NDArray[np.float64]:
        ends = np.array([function(int(k), rows) for k in successes])  # type: ignore[operator]
        held = (ends[:, :1] <= shares) & (shares <= ends[:, 1:])
        return np.asarray((chance * held).sum(axis=0))

    ours, score = coverage(agresti_coull), coverage(wilson)
    assert ours.min() >= 0.92
    assert 0.94 <= ours.mean() <= 0.97
    assert 0.94 <= score.mean() <= 0.96
    assert score.min() >= 0.83


@pytest.mark.parametrize(("rows", "share"), [(20, 0.95), (50, 0.98), (200, 0.95), (50, 0.8)])
def test_coverage_of_an_accuracy_near_1(rows: int, share: float) -> None:
    successes = np.arange(rows + 1)
    ends = np.array([agresti_coull(int(k), rows) for k in successes])
    held = (ends[:, 0] <= share) & (share <= ends[:, 1])
    assert 0.93 <= stats.binom.pmf(successes, rows, share)[held].sum() <= 0.99


# A paired difference.


def test_newcombe_of_the_paper() -> None:
    """Statistics in Medicine 17, 2635: 36, 12, 2 and 0 of 50."""
    assert newcombe_paired(*paired(36, 12, 2, 0)) == pytest.approx((0.0569, 0.3404), abs=5e-5)


@settings(deadline=None)
@given(st.tuples(*[st.integers(0, 40)] * 4).filter(lambda counts: sum(counts) > 0))
def test_the_difference_lies_in_its_interval_and_turns_with_the_sides(
    counts: tuple[int, int, int, int],
) -> None:
    ours, theirs = paired(*counts)
    low, high = newcombe_paired(ours, theirs)
    difference = ours.mean() - theirs.mean()
    assert -1 - 1e-9 <= low <= difference + 1e-9
    assert difference - 1e-9 <= high <= 1 + 1e-9
    assert high - low > 1e-6  # also of equal answers
    turned = newcombe_paired(theirs, ours)
    assert (-turned[1], -turned[0]) == pytest.approx((low, high), abs=1e-9)


@pytest.mark.parametrize("answers", [[1] * 20, [0] * 20, [1] * 18 + [0] * 2])
def test_equal_answers_are_not_known_to_be_equal(answers: list[int]) -> None:
    low, high = newcombe_paired(np.array(answers), np.array(answers))
    assert low < -0.01
    assert high > 0.01


@pytest.mark.parametrize(
    ("rows", "cells"),
    [
        (20, (0.90, 0.05, 0.03, 0.02)),
        (50, (0.90, 0.05, 0.03, 0.02)),
        (200, (0.70, 0.12, 0.08, 0.10)),
        (200, (0.97, 0.01, 0.01, 0.01)),
        (1000, (0.85, 0.05, 0.03, 0.07)),
    ],
)
def test_coverage_of_a_paired_difference(rows: int, cells: tuple[float, ...]) -> None:
    draws = np.random.default_rng(0).multinomial(rows, cells, size=1500)
    distinct, counts = np.unique(draws, axis=0, return_counts=True)
    ends = np.array([newcombe_paired(*paired(*row)) for row in distinct.tolist()])
    truth = cells[1] - cells[2]
    held = counts[(ends[:, 0] <= truth) & (truth <= ends[:, 1])].sum() / 1500
    # Where next to no row tells the two apart, no interval that has a width is as short as 95 %.
    assert 0.93 <= held <= (0.99 if rows * (cells[1] + cells[2]) > 10 else 1)


# A mean over rows, and over seeds.

LOSSES = {
    "losses": lambda rng, size: -np.log(rng.beta(4, 0.8, size)),
    "heavier": lambda rng, size: rng.gamma(0.5, 1.0, size),
    "differences": lambda rng, size: rng.gamma(0.5, 1, size) - 0.9 * rng.gamma(0.5, 1, size),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("rows", [50, 200])
def test_coverage_of_a_mean_over_rows(name: str, rows: int) -> None:
    rng = np.random.default_rng(4)
    truth = {"heavier": 0.5, "differences": 0.05}.get(name)
    if truth is None:
        truth = float(LOSSES[name](rng, 2_000_000).mean())
    ends = np.array([row_mean(values)[1:] for values in LOSSES[name](rng, (1200, rows))])
    assert 0.925 <= ((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean() <= 0.99


@settings(deadline=None)
@given(VALUES)
def test_a_mean_over_rows_is_never_surer_than_students(values: list[float]) -> None:
    mean, low, high = row_mean(np.array(values))
    expected, _, half = mean_interval(values)
    assert mean == pytest.approx(expected)
    assert low <= mean - half + 1e-9
    assert high >= mean + half - 1e-9


def test_one_row_says_nothing_of_its_mean() -> None:
    assert math.isnan(row_mean(np.array([0.5]))[1])
    assert row_mean(np.full(9, 0.5)) == (0.5, 0.5, 0.5)


def test_mean_by_hand() -> None:
    mean, deviation, half = mean_interval([0.8, 0.9, 1.0])
    assert mean == pytest.approx(0.9)
    assert deviation == pytest.approx(0.1)
    assert half == pytest.approx(4.302653 * 0.1 / math.sqrt(3), rel=1e-6)  # t(0.975; 2)


@settings(deadline=None)
@given(VALUES)
def test_mean_is_scipys_t_interval(values: list[float]) -> None:
    mean, deviation, half = mean_interval(values)
    if deviation > 1e-12:
        low, high = stats.t.interval(LEVEL, len(values) - 1, np.mean(values), stats.sem(values))
        assert (mean - half, mean + half) == pytest.approx((low, high), abs=1e-9)
    else:
        assert half == pytest.approx(0, abs=1e-9)


def test_one_run_says_nothing_of_its_spread() -> None:
    mean, deviation, half = mean_interval([0.75])
    assert mean == 0.75
    assert math.isnan(deviation)
    assert math.isnan(half)


def test_mean_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(1000):
        mean, _, half = mean_interval(rng.normal(0.8, 0.05, 3).tolist())
        held += abs(mean - 0.8) <= half
    assert 0.93 <= held / 1000 <= 0.97
