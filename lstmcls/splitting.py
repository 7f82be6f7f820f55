"""Which row goes where: duplicates out first, then stratified, seeded splits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstmcls.cli import BadInput

FORMAT = 1  # of a prepared folder; raised when its files change
SPLITS = ("train", "val", "test")
DROPPED = ("missing_label", "empty", "duplicates", "contradictory", "found_in_test")
FATES = (*SPLITS, *DROPPED)  # a row's fate is an index into this
TRAIN, VAL, TEST, MISSING_LABEL, EMPTY, DUPLICATE, CONTRADICTORY, FOUND_IN_TEST = range(8)
NO_LABEL, NO_TEXT = -1, -2  # in the place of a label's code

Array = NDArray[Any]


def fates(digests: Array, codes: Array, first_test: int) -> Array:
    """What becomes of each row before the split.

    Args:
        digests: (rows, 2) uint64, equal where two texts are one to a network.
        codes: (rows,) label codes, or NO_LABEL, or NO_TEXT where the text is empty.
        first_test: rows from here on are an official test set, kept whole.

    Returns:
        (rows,) int8 indices into FATES; rows left to be split are TRAIN.
    """
    fate = np.full(len(codes), TRAIN, np.int8)
    fate[first_test:] = TEST
    texts = _numbered(digests)
    rows = np.flatnonzero(codes[:first_test] >= 0)
    tested = np.flatnonzero(codes >= 0)
    tested = tested[tested >= first_test]

    low = np.full(len(codes), np.iinfo(np.int64).max)
    high = np.full(len(codes), -1)
    np.minimum.at(low, texts[rows], codes[rows])
    np.maximum.at(high, texts[rows], codes[rows])
    _, firsts = np.unique(texts[rows], return_index=True)
    again = np.ones(len(rows), bool)
    again[firsts] = False

    fate[rows[again]] = DUPLICATE
    fate[rows[low[texts[rows]] != high[texts[rows]]]] = CONTRADICTORY
    fate[rows[np.isin(texts[rows], texts[tested])]] = FOUND_IN_TEST
    fate[codes == NO_LABEL] = MISSING_LABEL
    fate[codes == NO_TEXT] = EMPTY
    return fate


def _numbered(digests: Array) -> Array:
    """(rows,) numbers below the number of rows, equal where the digests are equal."""
    order = np.lexsort((digests[:, 1], digests[:, 0]))
    ordered = digests[order]
    numbers = np.zeros(len(order), np.int64)
    numbers[order[1:]] = np.cumsum((ordered[1:] != ordered[:-1]).any(axis=1))
    return numbers


def split_rows(
    fate: Array, codes: Array, labels: Sequence[str], shares: Sequence[float], seed: int
) -> None:
    """Spread the TRAIN rows of every class over the splits, in place.

    Args:
        shares: of train, val and (where there is no official test set) test; they sum to 1.

    Raises:
        BadInput: a class with fewer rows than there are splits to fill.
    """
    random = np.random.default_rng(seed)
    for code, label in enumerate(labels):
        rows = np.flatnonzero((fate == TRAIN) & (codes == code))
        if len(rows) < len(shares):
            raise BadInput(
                f"class '{label}' has {len(rows)} usable rows, fewer than the {len(shares)} "
                f"splits ({', '.join(SPLITS[: len(shares)])}); add rows or remove the class"
            )
        rows = random.permutation(rows)
        ends = np.cumsum(apportion(len(rows), shares))
        for place in range(1, len(shares)):
            fate[rows[ends[place - 1] : ends[place]]] = place


def sample(chosen: Array, most: int, seed: int) -> Array:
    """`chosen`, (rows,) bool, or `most` of it drawn at random where it marks more rows."""
    rows = np.flatnonzero(chosen)
    if len(rows) <= most:
        return chosen
    drawn = np.zeros(len(chosen), bool)
    drawn[np.random.default_rng([seed, 1]).choice(rows, most, replace=False)] = True
    return drawn


def apportion(rows: int, shares: Sequence[float]) -> list[int]:
    """`rows` divided by `shares`, the largest remainders rounded up, nobody left with none."""
    exact = [rows * share for share in shares]
    counts = [max(1, int(part + 1e-9)) for part in exact]
    while sum(counts) < rows:
        counts[max(range(len(shares)), key=lambda i: exact[i] - counts[i])] += 1
    while sum(counts) > rows:
        counts[counts.index(max(counts))] -= 1
    return counts
