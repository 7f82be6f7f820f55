"""Folds: a division of the labelled rows in which each row is held out a single time.

The rows lie in the order of their folds, so that what is held out is one run of rows. The first
folds are repeated at the end, so that what remains is one run too: both are views, which
processes share without a copy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lstmcls.dataset import TokenDataset, joined


@dataclass(frozen=True)
class Folds:
    """`rows` in the order of their folds; fold f is the rows `bounds[f]` to `bounds[f + 1]`."""

    rows: TokenDataset
    bounds: tuple[int, ...]

    @property
    def size(self) -> int:
        """Rows of all folds together."""
        return self.bounds[-1]

    def held_out(self, fold: int) -> TokenDataset:
        """The rows of one fold."""
        return self.rows.between(self.bounds[fold], self.bounds[fold + 1])

    def train(self, fold: int) -> TokenDataset:
        """The rows of all other folds; those of the first of `divide`'s `used` folds are there."""
        return self.rows.between(self.bounds[fold + 1], self.size + self.bounds[fold])


def one_split(train: TokenDataset, val: TokenDataset) -> Folds:
    """A single fold to hold out: `val`; `train` is the rest."""
    return Folds(joined([val, train]), (0, len(val), len(val) + len(train)))


def divide(pool: TokenDataset, folds: int, seed: int, used: int | None = None) -> Folds:
    """`pool` divided at random into `folds` of like size, each class spread evenly over them.

    Args:
        used: how many of the folds will be held out, the first ones; all where it is None. The
            fewer, the less of the pool is repeated in memory; one fold repeats nothing.
    """
    fold_of = assign(pool.labels, folds, seed)
    order = np.argsort(fold_of, kind="stable")
    sizes = np.bincount(fold_of, minlength=folds)
    bounds = (0, *np.cumsum(sizes).tolist())
    repeated = order[: bounds[(folds if used is None else used) - 1]]
    return Folds(pool.chosen(np.concatenate([order, repeated])), bounds)


def assign(labels: NDArray[np.int32], folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of each row: classes are dealt out one after the other, as cards are.

    So folds differ by one row at most, and so do the rows of a class in any two folds.
    """
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    fold_of = np.empty(len(labels), dtype=np.int64)
    fold_of[by_class] = np.arange(len(labels)) % folds
    return fold_of
