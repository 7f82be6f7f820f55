"""Whether probabilities mean what they say, and the offsets that a macro F1 asks for.

Offsets are fitted on rows that the classifier was not trained on, and flatter on these rows: they
are judged on others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15
PASSES = 5  # over all classes, at most

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


def reliability(probabilities: Floats, labels: Labels, bins: int = 10) -> list[list[float]]:
    """[mean confidence, accuracy, rows] of bins of equally many rows, the least sure first.

    Args:
        probabilities: (rows, classes); labels: (rows,).
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    parts = np.array_split(np.argsort(confidence, kind="stable"), min(bins, len(labels)))
    return [[float(confidence[p].mean()), float(right[p].mean()), float(len(p))] for p in parts]


def best_offsets(log_probabilities: Floats, labels: Labels) -> Floats:
    """(classes,) what to add to the log-probabilities so that the argmax has the best macro F1.

    One class after the other is given the offset that is best while the others stay, exactly: all
    thresholds at which a row changes sides are tried (as the cyclic optimization of Fan & Lin
    2007). Two classes have one threshold, so that the result is the best there is; with more it is
    a local best, never worse than no offsets. Equally good ones: that before, from 0 on, else the
    nearest to it, halfway between the two rows beside it. The first class of two keeps 0.

    Args:
        log_probabilities: (rows, classes), finite; labels: (rows,).
    """
    scores = np.asarray(log_probabilities, np.float64)
    classes = scores.shape[1]
    offsets = np.zeros(classes)
    for _ in range(PASSES):
        before = offsets.copy()
        for k in range(1 if classes == 2 else 0, classes):
            offsets[k] = _best_offset(scores, labels, offsets, k)
        if (offsets == before).all() or classes == 2:
            break
    return offsets


def _best_offset(scores: Floats, labels: Labels, offsets: Floats, k: int) -> float:
    """The best offset of class k; the one that it has, where no other is better."""
    shifted = scores + offsets
    shifted[:, k] = -np.inf
    rival = shifted.argmax(axis=1)
    # At offsets above its threshold a row is of class k, and at it where argmax prefers k.
    thresholds = shifted.max(axis=1) - scores[:, k]
    thresholds = np.where(k < rival, np.nextafter(thresholds, -np.inf), thresholds)
    order = np.argsort(thresholds, kind="stable")
    thresholds = thresholds[order]
    f1 = _macro_f1_along(rival[order], labels[order], k, scores.shape[1])
    between = np.flatnonzero(np.diff(thresholds) > 0) + 1
    taken = np.concatenate([[0], between, [len(thresholds)]])  # rows of class k, of each choice
    ends = np.concatenate([[thresholds[0] - 2], thresholds, [thresholds[-1] + 2]])
    choices = (ends[taken] + ends[taken + 1]) / 2
    current = int(np.searchsorted(taken, np.searchsorted(thresholds, offsets[k])))
    good = np.flatnonzero(f1[taken] > f1[taken].max() - 1e-12)
    if current in good:
        return float(offsets[k])
    return float(choices[good[np.abs(choices[good] - offsets[k]).argmin()]])


def _macro_f1_along(rival: Labels, truth: Labels, k: int, classes: int) -> Floats:
    """(rows + 1,) macro F1 while the first 0, 1, ... rows are of class k, the rest their rival's.

    Each row that changes sides changes the F1 of its rival and of class k alone.
    """
    rows = len(truth)
    support = np.bincount(truth, minlength=classes)
    taken = _f1(np.concatenate([[0], np.cumsum(truth == k)]), support[k] + np.arange(rows + 1))
    by_rival = np.argsort(rival, kind="stable")
    mine, hit = rival[by_rival], (rival == truth)[by_rival]
    sizes = np.bincount(rival, minlength=classes)
    hits = np.bincount(rival, weights=rival == truth, minlength=classes)
    first = (np.cumsum(sizes) - sizes)[mine]
    gone = np.arange(rows) - first  # of the rival's rows, before this one
    past = np.concatenate([[0], np.cumsum(hit)])
    hits_gone = past[:-1] - past[first]
    left, predicted = hits[mine] - hits_gone, support[mine] + sizes[mine] - gone
    change = np.empty(rows)
    change[by_rival] = _f1(left - hit, predicted - 1) - _f1(left, predicted)
    others = np.arange(classes) != k
    start = _f1(hits, support + sizes)[others].sum()
    total: Floats = start + np.concatenate([[0], np.cumsum(change)]) + taken
    return total / classes


def _f1(right: NDArray[Any], of_class: NDArray[Any]) -> Floats:
    """`of_class`: rows of the class plus rows predicted as it; 0 where there are neither."""
    f1: Floats = 2 * right / np.maximum(1, of_class)
    return f1
