"""The weights of an ensemble: those of the least log-loss, and judged on rows they do not know."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

from lstmcls.blend import (
    SMALLEST_WEIGHT,
    blended,
    choose_members,
    fit_blend,
    fit_weights,
    row_losses,
)

Array = NDArray[Any]


def said(
    rng: np.random.Generator, labels: Array, strength: float, classes: int = 3, scale: float = 1.0
) -> Array:
    """Log-probabilities [rows, classes] that know the labels the better, the stronger they are.

    `scale`: 1 where they mean what they say.
    """
    evidence = rng.normal(size=(len(labels), classes)) * strength
    evidence[np.arange(len(labels)), labels] += strength**2
    return np.asarray(log_softmax(scale * evidence, axis=1))


def log_loss(members: dict[str, Array], weights: dict[str, float], labels: Array) -> float:
    total = sum(weights[name] * members[name] for name in weights)
    logs = log_softmax(total, axis=1)
    return float(-logs[np.arange(len(labels)), labels].mean())


def some_members(seed: int, count: int, rows: int = 120) -> tuple[dict[str, Array], Array]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, rows)
    strengths = rng.uniform(0.1, 1.5, count)
    scales = rng.uniform(0.3, 3.0, count)
    members = {f"m{k}": said(rng, labels, strengths[k], scale=scales[k]) for k in range(count)}
    return members, labels


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 4))
def test_the_weights_are_those_of_the_least_log_loss(seed: int, count: int) -> None:
    """As a method without gradients finds them, of weights that are not negative."""
    members, labels = some_members(seed, count)
    weights = fit_weights(members, labels)
    names = list(members)
    assert set(weights) <= set(names)
    assert min(weights.values()) >= SMALLEST_WEIGHT * max(weights.values())

    def loss(values: Array) -> float:
        return log_loss(members, dict(zip(names, np.abs(values), strict=True)), labels)

    searched = [
        minimize(loss, start, method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-10,
                                                             "maxiter": 4000, "maxfev": 4000}).fun
        for start in (np.full(count, 1 / count), np.array([weights.get(n, 0.0) for n in names]))
    ]  # fmt: skip
    found = log_loss(members, weights, labels)
    # What is below the smallest weight is left out, which costs next to nothing.
    assert found <= min(searched) + (1e-5 if len(weights) == count else 2e-3)


@pytest.mark.parametrize("scale", [0.5, 1.0, 4.0])
def test_a_weight_is_a_temperature_too(scale: float) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 20_000)
    logs = said(rng, labels, 1.0)
    (weight,) = fit_weights({"one": scale * logs}, labels).values()
    assert weight == pytest.approx(1 / scale, rel=0.05)


def test_what_knows_less_than_nothing_still_answers() -> None:
    labels = np.arange(30) % 3
    wrong = said(np.random.default_rng(0), (labels + 1) % 3, 3.0)
    weights = fit_weights({"a": wrong, "b": wrong}, labels)
    assert weights == {"a": 0.5, "b": 0.5}


def test_cross_fitting_uses_no_own_rows() -> None:
    members, labels = some_members(3, 3)
    fold_of = np.arange(len(labels)) % 4
    blend = fit_blend(members, labels, fold_of)
    assert blend.weights == fit_weights(members, labels)
    for fold in range(4):
        held = fold_of == fold
        weights = fit_weights({n: m[~held] for n, m in members.items()}, labels[~held])
        expected = blended({n: m[held] for n, m in members.items()}, weights)
        np.testing.assert_allclose(blend.log_probabilities[held], expected, rtol=0, atol=1e-12)
        # Other labels of the rows of a fold change nothing of what is said of these rows.
        changed = np.where(held, (labels + 1) % 3, labels)
        again = fit_blend(members, changed, fold_of)
        np.testing.assert_allclose(again.log_probabilities[held], expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        row_losses(blend, labels), -blend.log_probabilities[np.arange(len(labels)), labels]
    )


def test_one_fold_cannot_be_cross_fitted() -> None:
    members, labels = some_members(0, 1)
    with pytest.raises(ValueError, match="two folds or more"):
        fit_blend(members, labels, np.zeros(len(labels), int))


def test_a_helpful_member_is_taken_and_a_useless_one_is_left_out() -> None:
    rng = np.random.default_rng(1)
    labels, fold_of = rng.integers(0, 3, 2000), np.arange(2000) % 5
    first, other = (said(rng, labels, strength) for strength in (1.0, 0.8))
    noise = said(rng, rng.integers(0, 3, 2000), 1.0)
    twin = first + 0.001 * rng.normal(size=first.shape)
    members = {"noise": noise, "first": first, "twin": twin, "other": other}
    blend = choose_members(members, labels, fold_of, "first")
    assert set(blend.weights) == {"first", "other"}
    alone = choose_members({"noise": noise, "first": first}, labels, fold_of, "first")
    assert set(alone.weights) == {"first"}
    assert row_losses(blend, labels).mean() < row_losses(alone, labels).mean() - 0.05


def test_the_most_helpful_member_is_taken_first() -> None:
    """So that two that are alike do not both come in."""
    rng = np.random.default_rng(2)
    labels, fold_of = rng.integers(0, 3, 2000), np.arange(2000) % 4
    first, good = said(rng, labels, 0.5), said(rng, labels, 1.5)
    worse = good + rng.normal(size=good.shape)
    blend = choose_members({"first": first, "worse": worse, "good": good}, labels, fold_of, "first")
    assert "good" in blend.weights
    assert "worse" not in blend.weights


@given(seed=st.integers(0, 1000))
@settings(max_examples=15)
def test_a_choice_is_never_worse_out_of_fold_than_the_first_alone(seed: int) -> None:
    members, labels = some_members(seed, 3)
    fold_of = np.arange(len(labels)) % 3
    blend = choose_members(members, labels, fold_of, "m1")
    alone = fit_blend({"m1": members["m1"]}, labels, fold_of)
    assert row_losses(blend, labels).mean() <= row_losses(alone, labels).mean() + 1e-12
