"""Calibration by hand, and what holds for any rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import softmax

from lstmcls.calibration import brier_score, expected_calibration_error

Array = NDArray[Any]


@st.composite
def judged(draw: st.DrawFn, classes: int | None = None) -> tuple[Array, Array]:
    """Logits (rows, classes) on a coarse lattice, so that some are equal, and labels."""
    count = classes or draw(st.integers(2, 4))
    rows = draw(st.integers(1, 25))
    cells = st.lists(st.integers(-8, 8), min_size=rows * count, max_size=rows * count)
    labels = st.lists(st.integers(0, count - 1), min_size=rows, max_size=rows)
    return np.array(draw(cells)).reshape(rows, count) / 4, np.array(draw(labels))


def test_brier_by_hand() -> None:
    probabilities = np.array([[0.8, 0.2], [0.4, 0.6], [1.0, 0.0]])
    assert brier_score(probabilities, np.array([0, 0, 1])) == pytest.approx(
        (2 * 0.2**2 + 2 * 0.6**2 + 2) / 3
    )


def test_calibration_error_by_hand() -> None:
    confidences = np.array([0.6, 0.6, 0.7, 0.9, 0.9, 1.0])
    probabilities = np.stack([confidences, 1 - confidences], axis=1)
    labels = np.array([0, 1, 0, 0, 0, 1])  # two of the first three are right, two of the others
    expected = (abs(1.9 - 2) + abs(2.8 - 2)) / 6
    assert expected_calibration_error(probabilities, labels, bins=2) == pytest.approx(expected)
    assert expected_calibration_error(probabilities, labels, bins=1) == pytest.approx(0.7 / 6)


def test_calibrated_rows_have_next_to_no_calibration_error() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), 20_000)
    labels = (rng.random((20_000, 1)) > probabilities.cumsum(axis=1)).sum(axis=1)
    assert expected_calibration_error(probabilities, labels) < 0.02
    sure = softmax(3 * np.log(probabilities), axis=1)
    assert expected_calibration_error(sure, labels) > 0.1


@settings(deadline=None)
@given(judged(), st.randoms(use_true_random=False))
def test_figures_do_not_depend_on_the_order_of_rows(case: tuple[Array, Array], random: Any) -> None:
    probabilities, labels = softmax(case[0], axis=1), case[1]
    order = list(range(len(labels)))
    random.shuffle(order)
    for figure, most in ((expected_calibration_error, 1), (brier_score, 2)):
        value = figure(probabilities, labels)
        assert 0 <= value <= most
        assert figure(probabilities[order], labels[order]) == pytest.approx(value, abs=1e-12)
