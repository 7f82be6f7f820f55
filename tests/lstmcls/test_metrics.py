"""The metrics against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from lstmcls.metrics import METRICS, classification_metrics, confusion, per_class

# Predicted: 0, 1, 1, 0. Right: rows 0, 1 and 3.
BINARY = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.7, 0.3]], dtype=np.float32)
TRUTH = np.array([0, 1, 0, 0])


def test_binary_by_hand() -> None:
    found = classification_metrics(BINARY, TRUTH)
    assert tuple(found) == METRICS
    loss = -(math.log(0.9) + math.log(0.8) + math.log(0.4) + math.log(0.7)) / 4
    assert found["loss"] == pytest.approx(loss, abs=1e-6)
    assert found["accuracy"] == 0.75
    assert found["precision"] == 0.75  # class 0: 2 of 2, class 1: 1 of 2
    assert found["recall"] == pytest.approx((2 / 3 + 1) / 2, abs=1e-6)
    assert found["f1"] == pytest.approx((0.8 + 2 / 3) / 2, abs=1e-6)
    assert found["roc_auc"] == 1.0  # the one positive scores above every negative


def test_three_classes_by_hand() -> None:
    scores = np.array([[0.6, 0.3, 0.1], [0.1, 0.7, 0.2], [0.2, 0.5, 0.3], [0.3, 0.3, 0.4]])
    found = classification_metrics(scores, np.array([0, 1, 2, 2]))
    assert found["accuracy"] == 0.75
    assert found["precision"] == pytest.approx((1 + 1 / 2 + 1) / 3, abs=1e-6)
    assert found["recall"] == pytest.approx((1 + 1 + 1 / 2) / 3, abs=1e-6)
    # One against the rest, by pairs ranked right: 3 of 3, 3 of 3, 4 of 4.
    assert found["roc_auc"] == 1.0


def test_roc_auc_counts_pairs_and_ties_as_half() -> None:
    positive = np.array([0.1, 0.4, 0.4, 0.8])
    scores = np.stack([1 - positive, positive], axis=1)
    # Pairs (0.4 or 0.8 against 0.1 or 0.4): three right, one tie.
    assert classification_metrics(scores, np.array([0, 0, 1, 1]))["roc_auc"] == 3.5 / 4


@pytest.mark.parametrize("classes", [2, 3])
def test_what_is_nearly_certain_does_not_tie(classes: int) -> None:
    logits = np.zeros((4, classes))
    logits[:, 1] = [20, 21, 22, 23]  # all of them 1 as a float32 probability
    scores = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores = (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)
    assert (scores[:, 1] == 1).all()
    labels = np.array([0, classes - 1, 1, 1])
    found = classification_metrics(scores, labels)
    # Of three classes the last one's text has more of it than two of the three other texts.
    assert found["roc_auc"] == (
        1.0 if classes == 2 else pytest.approx((1 + 1 + 2 / 3) / 3, abs=1e-6)
    )


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_roc_auc_is_that_of_scikit_learn(classes: int) -> None:
    draw = np.random.default_rng(0)
    scores, labels = draw.dirichlet(np.ones(classes), size=300), draw.integers(0, classes, 300)
    given = scores[:, 1] if classes == 2 else scores
    wanted = roc_auc_score(labels, given, multi_class="ovr")
    assert classification_metrics(scores, labels)["roc_auc"] == pytest.approx(wanted, abs=1e-6)


def test_a_class_never_predicted_counts_as_zero() -> None:
    scores = np.array([[0.9, 0.1], [0.8, 0.2]])
    found = classification_metrics(scores, np.array([0, 1]))
    assert found["precision"] == 0.25
    assert found["recall"] == 0.5


def test_roc_auc_is_nan_where_a_class_is_absent() -> None:
    assert math.isnan(classification_metrics(BINARY, np.zeros(4, dtype=int))["roc_auc"])


def test_a_certain_error_has_a_finite_loss() -> None:
    found = classification_metrics(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([1, 1]))
    assert found["loss"] == pytest.approx(-math.log(1e-12) / 2, abs=1e-5)


def test_values_are_rounded_once() -> None:
    scores = np.random.default_rng(0).dirichlet([1, 1, 1], size=50).astype(np.float32)
    found = classification_metrics(scores, np.arange(50) % 3)
    assert all(value == round(value, 6) for value in found.values())


def test_per_class_and_confusion() -> None:
    table = per_class(BINARY, TRUTH, ["no", "yes"])
    assert table == {
        "no": {"precision": 1.0, "recall": 0.666667, "f1": 0.8, "support": 3.0},
        "yes": {"precision": 0.5, "recall": 1.0, "f1": 0.666667, "support": 1.0},
    }
    assert confusion(BINARY, TRUTH) == [[2, 1], [0, 1]]
