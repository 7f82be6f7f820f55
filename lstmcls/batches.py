"""Batches of row numbers: of rows of like length, which costs little padding, or at random."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

# Rows are sorted by length inside windows of about this many batches, then batches are shuffled:
# little padding, and still a different mix of rows in every batch of every epoch. Sorted less
# strictly, by lengths with some noise, batches cost far more padding before they mix any better.
WINDOW = 200
FEWEST = 16  # rows that are worth a forward pass


def random_batches(rows: int, batch_size: int, rng: np.random.Generator) -> list[NDArray[np.int32]]:
    """One epoch's batches as a DataLoader with shuffle=True makes them: a smaller one comes last.

    For rows that are all padded to one length, where rows of like length together save nothing.
    """
    order = np.arange(rows, dtype=np.int32)
    rng.shuffle(order)
    return [order[start : start + batch_size] for start in range(0, rows, batch_size)]


def shuffled_batches(
    lengths: NDArray[np.int32], batch_size: int, rng: np.random.Generator
) -> list[NDArray[np.int32]]:
    """One epoch's batches of row numbers: every row once, rows of like length together."""
    order = np.arange(len(lengths), dtype=np.int32)
    rng.shuffle(order)
    count = math.ceil(len(order) / batch_size)
    # Even windows, of whole batches: a small one at the end would be mostly padding.
    cuts = np.linspace(0, count, max(1, round(count / WINDOW)) + 1).round().astype(int) * batch_size
    batches: list[NDArray[np.int32]] = []
    for start, end in pairwise(cuts):
        window = order[start:end]
        window = window[np.argsort(lengths[window], kind="stable")]
        batches += [window[i : i + batch_size] for i in range(0, len(window), batch_size)]
    return [batches[i] for i in rng.permutation(count)]


def ordered_batches(lengths: NDArray[np.int32], batch_size: int) -> Iterator[NDArray[np.int64]]:
    """Batches of row numbers from the shortest rows to the longest, always the same.

    Lengths within a batch differ by a fifth at most, unless fewer than FEWEST rows would fit: of
    rows in the long tail of most texts a full batch would be a fifth padding.
    """
    order = np.argsort(lengths, kind="stable")
    ordered, start = lengths[order], 0
    while start < len(order):
        alike = int(np.searchsorted(ordered, ordered[start] * 1.2, side="right"))
        end = min(start + batch_size, max(alike, start + FEWEST))
        yield order[start:end]
        start = end
