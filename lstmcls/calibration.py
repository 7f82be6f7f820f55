"""Whether probabilities mean what they say, judged on rows that chose nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15

Floats = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]


def brier_score(probabilities: Floats, labels: Labels) -> float:
    """Squared error of all class probabilities, summed over classes, mean over rows: 0 to 2.

    Brier 1950. Of two classes it is twice the squared error of the second's probability.

    Args:
        probabilities: (rows, classes); labels: (rows,).
    """
    truth = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities - truth) ** 2).sum(axis=1).mean())


def expected_calibration_error(probabilities: Floats, labels: Labels, bins: int = BINS) -> float:
    """|confidence - accuracy| of the predicted class, mean over bins of equally many rows: 0 to 1.

    Naeini et al. 2015 with the adaptive bins of Nguyen & O'Connor 2015: bins of equal width have
    next to no rows where a classifier is mostly sure. It is biased upwards, by about 0.4 over the
    root of a bin's rows at most: compare only what has the same rows.

    Args:
        probabilities: (rows, classes); labels: (rows,).
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    # Equal confidences share their accuracy, so that the order of the rows changes nothing.
    _, place, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    right = (np.bincount(place, weights=right) / counts)[place]
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split((confidence - right)[order], min(bins, len(labels)))
    return float(sum(abs(part.sum()) for part in parts) / len(labels))
