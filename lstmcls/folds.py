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
    """`rows` in the order of their folds; fold f is the rows `bounds[f]` to `bounds[f + 1]`.

    Its last `tested[f]` rows are of the test split: they choose nothing, and are what the network
    without the fold is judged on in the end. `origin` is each row's number in the test split.
    """

    rows: TokenDataset
    bounds: tuple[int, ...]
    tested: tuple[int, ...] = ()
    origin: tuple[NDArray[np.int64], ...] = ()  # by fold, [tested]

    @property
    def size(self) -> int:
        """Rows of all folds together."""
        return self.bounds[-1]

    def held_out(self, fold: int) -> TokenDataset:
        """The rows of one fold by which is chosen."""
        return self.rows.between(self.bounds[fold], self._first_tested(fold))

    def test(self, fold: int) -> TokenDataset:
        """The rows of one fold that are of the test split."""
        return self.rows.between(self._first_tested(fold), self.bounds[fold + 1])

    def train(self, fold: int) -> TokenDataset:
        """The rows of all other folds; those of the first of `divide`'s `used` folds are there."""
        return self.rows.between(self.bounds[fold + 1], self.size + self.bounds[fold])

    def _first_tested(self, fold: int) -> int:
        return self.bounds[fold + 1] - (self.tested[fold] if self.tested else 0)


def one_split(train: TokenDataset, val: TokenDataset) -> Folds:
    """A single fold to hold out: `val`; `train` is the rest."""
    return Folds(joined([val, train]), (0, len(val), len(val) + len(train)))


def divide(
    pool: TokenDataset,
    folds: int,
    seed: int,
    used: int | None = None,
    test: TokenDataset | None = None,
) -> Folds:
    """`pool` divided at random into `folds` of like size, each class spread evenly over them.

    Args:
        used: how many of the folds will be held out, the first ones; all where it is None. The
            fewer, the less of the pool is repeated in memory; one fold repeats nothing.
        test: rows that are divided in the same way, and choose nothing.
    """
    fold_of, of_test = assign(pool.labels, folds, seed), np.zeros(0, np.int64)
    tested: tuple[int, ...] = ()
    if test is not None:
        of_test = assign(test.labels, folds, seed)
        tested = tuple(np.bincount(of_test, minlength=folds).tolist())
        fold_of, pool = np.concatenate([fold_of, of_test]), joined([pool, test])
    last = np.arange(len(fold_of)) >= len(fold_of) - len(of_test)
    order = np.lexsort((last, fold_of))
    bounds = (0, *np.cumsum(np.bincount(fold_of, minlength=folds)).tolist())
    repeated = order[: bounds[(folds if used is None else used) - 1]]
    origin = tuple(np.flatnonzero(of_test == fold) for fold in range(folds) if tested)
    return Folds(pool.chosen(np.concatenate([order, repeated])), bounds, tested, origin)


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
