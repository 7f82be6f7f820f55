"""Intervals against scipy's, by hand, and by how often they hold the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tune.intervals import LEVEL, bootstrap_mean, mean_interval

VALUES = st.lists(st.floats(-1, 1).map(lambda v: round(v, 3)), min_size=2, max_size=12)


@pytest.mark.parametrize("name", ["right or wrong", "a paired difference", "numbers"])
def test_bootstrap_is_scipys(name: str) -> None:
    rng = np.random.default_rng(1)
    values = {
        "right or wrong": (rng.random(300) < 0.8).astype(float),
        "a paired difference": rng.choice([-1.0, 0.0, 0.0, 0.0, 1.0, 1.0], 300),
        "numbers": rng.normal(size=200),
    }[name]
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, rng=0
    ).confidence_interval
    mine = bootstrap_mean(values, resamples=20_000)
    width = theirs.high - theirs.low
    assert mine == pytest.approx((theirs.low, theirs.high), abs=0.04 * width)


def test_bootstrap_of_one_value_over_and_over() -> None:
    assert bootstrap_mean(np.ones(50)) == (1.0, 1.0)
    assert bootstrap_mean(np.zeros(1)) == (0.0, 0.0)


def test_bootstrap_depends_on_its_seed_alone() -> None:
    values = np.random.default_rng(0).random(100)
    assert bootstrap_mean(values) == bootstrap_mean(values.copy())
    assert bootstrap_mean(values) != bootstrap_mean(values, seed=1)


def test_bootstrap_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    held = 0
    for seed in range(300):
        low, high = bootstrap_mean((rng.random(200) < 0.8).astype(float), seed, resamples=400)
        held += low <= 0.8 <= high
    assert 0.90 <= held / 300 <= 0.985


def test_mean_by_hand() -> None:
    mean, deviation, half = mean_interval([0.8, 0.9, 1.0])
    assert mean == pytest.approx(0.9)
    assert deviation == pytest.approx(0.1)
    assert half == pytest.approx(4.302653 * 0.1 / math.sqrt(3), rel=1e-6)  # t(0.975; 2)


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
