"""What a classifier is judged by, computed by scikit-learn from class probabilities.

scikit-learn takes as long to import as torch: it is imported where it is first used, so that a
prediction or a message about bad input does not wait for it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# What a report holds for the validation split; any of them can be a search's objective.
METRICS = ("loss", "accuracy", "precision", "recall", "f1", "roc_auc")
OBJECTIVES = tuple(f"val_{name}" for name in METRICS)

# Metrics are rounded here, once, so that a record and a later evaluation agree to the digit.
DIGITS = 6


def classification_metrics(
    probabilities: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]
) -> dict[str, float]:
    """The METRICS of `probabilities` (rows x classes) against `labels` (rows).

    Precision, recall and F1 are macro averages over all classes; a class never predicted
    counts as 0. ROC AUC is one-versus-rest, macro; NaN where `labels` lack a class.
    """
    from sklearn.metrics import precision_recall_fscore_support

    classes = np.arange(probabilities.shape[1])
    predicted = probabilities.argmax(axis=1)
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, predicted, labels=classes, average="macro", zero_division=0
    )
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    values = {
        "loss": -np.log(np.maximum(chosen, 1e-12)).mean(),
        "accuracy": (predicted == labels).mean(),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "roc_auc": _roc_auc(probabilities, labels),
    }
    return {name: round(float(value), DIGITS) for name, value in values.items()}


def _roc_auc(probabilities: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]) -> float:
    from sklearn.metrics import roc_auc_score

    classes = np.arange(probabilities.shape[1])
    if len(np.unique(labels)) < len(classes) or not np.isfinite(probabilities).all():
        return float("nan")
    scores = probabilities.astype(np.float64)
    if len(classes) == 2:
        # Log-odds: in float32 all that is nearly certain is 1 and would tie.
        logs = np.log(np.maximum(scores, np.finfo(np.float64).tiny))
        return float(roc_auc_score(labels, logs[:, 1] - logs[:, 0]))
    # float32 rows miss a sum of 1 by more than scikit-learn tolerates.
    scores /= scores.sum(axis=1, keepdims=True)
    return float(roc_auc_score(labels, scores, multi_class="ovr", labels=classes))


def per_class(
    probabilities: NDArray[np.floating[Any]],
    labels: NDArray[np.integer[Any]],
    names: Sequence[str],
) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and support of each class, under its name."""
    from sklearn.metrics import precision_recall_fscore_support

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = precision_recall_fscore_support(
            labels, probabilities.argmax(axis=1), labels=np.arange(len(names)), zero_division=0
        )
    columns = ("precision", "recall", "f1", "support")
    return {
        name: {column: round(float(table[c][k]), DIGITS) for c, column in enumerate(columns)}
        for k, name in enumerate(names)
    }


def confusion(
    probabilities: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]
) -> list[list[int]]:
    """Counts of (true class, predicted class): row k holds the examples of class k."""
    from sklearn.metrics import confusion_matrix

    classes = np.arange(probabilities.shape[1])
    matrix: list[list[int]] = confusion_matrix(
        labels, probabilities.argmax(axis=1), labels=classes
    ).tolist()
    return matrix
