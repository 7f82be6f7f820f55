"""Calibration by hand, and what its fits promise for any rows."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from lstmcls.calibration import best_offsets, brier_score, expected_calibration_error
from lstmcls.metrics import classification_metrics

Array = NDArray[Any]


@st.composite
def judged(draw: st.DrawFn, classes: int | None = None) -> tuple[Array, Array]:
    """Logits (rows, classes) on a coarse lattice, so that some are equal, and labels."""
    count = classes or draw(st.integers(2, 4))
    rows = draw(st.integers(1, 25))
    cells = st.lists(st.integers(-8, 8), min_size=rows * count, max_size=rows * count)
    labels = st.lists(st.integers(0, count - 1), min_size=rows, max_size=rows)
    return np.array(draw(cells)).reshape(rows, count) / 4, np.array(draw(labels))


def macro_f1(scores: Array, labels: Array) -> float:
    """Of the argmax; as `classification_metrics` has it, which takes a millisecond."""
    classes = np.arange(scores.shape[1])
    predicted, truth = scores.argmax(axis=1)[:, None] == classes, labels[:, None] == classes
    right, either = (predicted & truth).sum(axis=0), predicted.sum(axis=0) + truth.sum(axis=0)
    return float((2 * right / np.maximum(1, either)).mean())


def test_macro_f1_is_scikit_learns() -> None:
    rng = np.random.default_rng(4)
    probabilities, labels = rng.dirichlet(np.ones(4), 30), rng.integers(0, 3, 30)
    expected = classification_metrics(probabilities, labels)["f1"]
    assert macro_f1(probabilities, labels) == pytest.approx(expected, abs=1e-6)


# How far probabilities are off.


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


# Offsets.


@settings(deadline=None)
@given(judged(classes=2))
def test_two_classes_have_the_best_threshold_there_is(case: tuple[Array, Array]) -> None:
    scores, labels = case
    offsets = best_offsets(scores, labels)
    assert offsets[0] == 0
    best = macro_f1(scores + offsets, labels)
    for threshold in np.arange(-4.125, 4.25, 0.125):
        assert best >= macro_f1(scores + np.array([0, threshold]), labels) - 1e-9
    if offsets[1] != 0:
        assert best > macro_f1(scores, labels)


@settings(max_examples=200, deadline=None)
@given(judged())
def test_offsets_are_never_worse_than_none(case: tuple[Array, Array]) -> None:
    scores, labels = case
    offsets = best_offsets(scores, labels)
    assert offsets.shape == (scores.shape[1],)
    assert np.isfinite(offsets).all()
    assert macro_f1(scores + offsets, labels) >= macro_f1(scores, labels) - 1e-9


def test_three_classes_come_near_the_best_of_a_lattice() -> None:
    rng = np.random.default_rng(3)
    labels = rng.choice(3, 200, p=[0.8, 0.15, 0.05])
    logits = rng.normal(0, 1, (200, 3)) + np.log([0.8, 0.15, 0.05])
    logits[np.arange(200), labels] += 1.5
    scores = log_softmax(logits, axis=1)
    steps = np.arange(-1, 4, 0.1)
    best = max(
        macro_f1(scores + np.array([0, a, b]), labels) for a, b in itertools.product(steps, steps)
    )
    found = macro_f1(scores + best_offsets(scores, labels), labels)
    assert found > macro_f1(scores, labels) + 0.02
    assert found > best - 0.02


def test_what_is_best_already_stays() -> None:
    scores = np.log(np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]))
    assert best_offsets(scores, np.array([0, 1, 0])).tolist() == [0, 0]
    by_hand = best_offsets(scores, np.array([0, 1, 1]))  # the third needs more than log(0.6 / 0.4)
    assert by_hand.tolist() == pytest.approx([0, (np.log(9) + np.log(1.5)) / 2])
