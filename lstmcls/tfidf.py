"""TF-IDF features of n-grams of tokens and of characters, hashed and counted a piece at a time.

A feature of a row is (1 + log count) * idf, as of scikit-learn with `sublinear_tf`, and each of
the two blocks, tokens and characters, is scaled to length 1. What is held is one entry for each
different n-gram of a row, never one for each row and n-gram.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lstmcls.dataset import TokenDataset
from lstmcls.ngrams import CHUNK, hashes
from lstmcls.tokenizer import UNK_ID

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

BUCKETS = 2**20  # of n-grams of tokens, and as many of characters
TOKENS = (1, 2)  # the shortest and the longest n-gram
CHARACTERS, SPACELESS = (2, 5), (1, 4)  # the second where spaces do not set words apart
SPACE, FEWEST_SPACES = 32, 1 / 12  # of the characters inside texts; European languages have 1 / 6
# N-grams of characters that more rows have, by share and by number, are half of all entries of long
# texts and say nothing: without them eight sets of texts are judged as well or better.
COMMON_SHARE, COMMON_ROWS = 0.1, 100

Span = tuple[int, int]  # the shortest and the longest n-gram; (0, 0): none
Spans = tuple[Span, Span]  # of tokens, of characters


class Counts(NamedTuple):
    """How often each n-gram is in each row of a piece of the data, rows and their slots ascending.

    A slot is an n-gram's hash, which for one of characters is BUCKETS or more.
    """

    rows: int
    row: NDArray[np.int64]
    slot: NDArray[np.int64]
    times: NDArray[np.int64]


def spans_of(data: TokenDataset) -> Spans:
    """Which n-grams such texts are told apart by."""
    if data.characters is None:
        return TOKENS, (0, 0)
    borders = 2 * len(data)
    spaces = np.count_nonzero(data.characters == SPACE) - borders
    spaced = spaces >= FEWEST_SPACES * (len(data.characters) - borders)
    return TOKENS, CHARACTERS if spaced else SPACELESS


def grams(data: TokenDataset, spans: Spans) -> NDArray[np.int64]:
    """About how many n-grams each row has."""
    (shortest, longest), (least, most) = spans
    found = data.lengths.astype(np.int64) * (1 + longest - shortest)
    if most and data.character_offsets is not None:
        found += np.diff(data.character_offsets) * (1 + most - least)
    return found


def counted(data: TokenDataset, spans: Spans) -> Iterator[Counts]:
    """The n-grams of all rows, in pieces of about CHUNK tokens and characters, or of one row."""
    blocks: list[tuple[NDArray[Any], NDArray[np.int64], Span, int]]
    blocks, ends = [(data.ids, data.offsets, spans[0], 0)], data.offsets
    if spans[1][1] and data.characters is not None and data.character_offsets is not None:
        blocks.append((data.characters, data.character_offsets, spans[1], BUCKETS))
        ends = ends + data.character_offsets
    cuts = np.unique(np.searchsorted(ends, np.arange(0, ends[-1], CHUNK)))
    for start, end in pairwise([*cuts.tolist(), len(data)]):
        keys = [key for block in blocks for key in _keys(*block, start, end)]
        ordered = np.sort(np.concatenate(keys))
        first = np.flatnonzero(np.diff(ordered, prepend=-1))
        row, slot = np.divmod(ordered[first], 2 * BUCKETS)
        yield Counts(end - start, row, slot, np.diff(first, append=len(ordered)))


def _keys(
    flat: NDArray[Any], offsets: NDArray[np.int64], span: Span, base: int, start: int, end: int
) -> Iterator[NDArray[np.int64]]:
    """row * 2 * BUCKETS + slot of every n-gram without [UNK] of the rows from `start` to `end`."""
    offsets = offsets[start : end + 1]
    rows = np.repeat(np.arange(end - start), np.diff(offsets))
    ids = flat[offsets[0] : offsets[-1]].astype(np.int64)
    known = within = ids != UNK_ID
    for n, hashed in enumerate(hashes(ids, span[1]), 1):
        if n > 1:
            within = within[:-1] & known[n - 1 :]
        if n >= span[0]:
            row = rows[: len(hashed)]
            here = within & (row == rows[n - 1 :])
            yield row[here] * (2 * BUCKETS) + (base + hashed[here] % BUCKETS)


def kept(rows_with: NDArray[np.int64], rows: int, most: int) -> NDArray[np.int64]:
    """The slots that are worth a feature, ascending; of too many those that `most` rows have.

    Args:
        rows_with: how many of the `rows` have each of the 2 * BUCKETS slots.
        most: slots kept.
    """
    usual = rows_with > 0
    usual[BUCKETS:] &= rows_with[BUCKETS:] <= max(COMMON_ROWS, COMMON_SHARE * rows)
    slots = np.flatnonzero(usual)
    return np.sort(slots[np.argsort(-rows_with[slots], kind="stable")[:most]])


def weighted(counts: Counts, index: NDArray[np.int32], idf: NDArray[np.float32]) -> csr_matrix:
    """The features [rows, K] of counts, float32.

    Args:
        index: [2 * BUCKETS], a slot's column + 1, or 0.
        idf: [1 + K].
    """
    from scipy.sparse import csr_matrix

    column = index[counts.slot]
    known = column > 0
    row, column = counts.row[known], column[known]
    value = (1 + np.log(counts.times[known], dtype=np.float32)) * idf[column]
    block = 2 * row + (counts.slot[known] >= BUCKETS)
    square = np.bincount(block, weights=value * value, minlength=2 * counts.rows)
    value /= np.sqrt(square[block]).astype(np.float32)
    ends = np.concatenate([[0], np.bincount(row, minlength=counts.rows).cumsum()])
    return csr_matrix((value, column - 1, ends), shape=(counts.rows, len(idf) - 1))


def stacked(pieces: Iterator[csr_matrix], shape: tuple[int, int], entries: int) -> csr_matrix:
    """All rows of the pieces as one float64 matrix; never are all pieces held beside it.

    `entries`: at least as many as there are; what is not filled takes no memory.
    """
    from scipy.sparse import csr_matrix

    values, columns = np.empty(entries), np.empty(entries, np.int32)
    ends, filled = [np.zeros(1, np.int32)], 0
    for piece in pieces:
        there = slice(filled, filled + piece.nnz)
        values[there], columns[there] = piece.data, piece.indices
        ends.append((piece.indptr[1:] + filled).astype(np.int32))
        filled = there.stop
    return csr_matrix((values[:filled], columns[:filled], np.concatenate(ends)), shape=shape)
