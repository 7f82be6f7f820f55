"""TF-IDF features against scikit-learn's, and counts against naive ones."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

from lstmcls import tfidf
from lstmcls.dataset import TokenDataset, unlabelled
from lstmcls.tfidf import BUCKETS, Spans, counted, kept, spans_of, stacked, weighted

rows_of_ids = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), min_size=1, max_size=6)
SPANS: Spans = ((1, 2), (2, 4))


def naive(ids: Sequence[int], span: tuple[int, int], base: int) -> Counter[int]:
    """Hashes of the n-grams without an id of 1."""
    shortest, longest = span
    grams = [ids[i : i + n] for n in range(shortest, longest + 1) for i in range(len(ids) - n + 1)]
    return Counter(
        base + functools.reduce(lambda hashed, one: (hashed * 1_000_003 + one) % BUCKETS, gram)
        for gram in grams
        if 1 not in gram
    )


@settings(max_examples=50, deadline=None)
@given(rows_of_ids, st.data(), st.integers(1, 20))
def test_ngrams_are_counted_within_each_row_in_pieces_of_any_size(
    rows: list[list[int]], data: st.DataObject, chunk: int
) -> None:
    texts = data.draw(st.lists(st.text("ab ", max_size=8), min_size=len(rows), max_size=len(rows)))
    dataset = unlabelled(rows, texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tfidf, "CHUNK", chunk)
        pieces = list(counted(dataset, SPANS))
    found: list[Counter[int]] = []
    for piece in pieces:
        counters: list[Counter[int]] = [Counter() for _ in range(piece.rows)]
        for row, slot, times in zip(piece.row, piece.slot, piece.times, strict=True):
            counters[row][int(slot)] = int(times)
        found += counters
    assert found == [
        naive(ids, SPANS[0], 0) + naive(list(map(ord, text)), SPANS[1], BUCKETS)
        for ids, text in zip(rows, texts, strict=True)
    ]


def test_characters_are_code_units_and_only_read_where_they_are() -> None:
    (piece,) = counted(unlabelled([[2]], ["a\U0001f600"]), ((1, 1), (3, 3)))
    units = [ord("a"), 0xD83D, 0xDE00]
    assert dict(zip(piece.slot.tolist(), piece.times.tolist(), strict=True)) == {
        2: 1,
        **naive(units, (3, 3), BUCKETS),
    }
    (piece,) = counted(unlabelled([[2]]), SPANS)
    assert piece.slot.tolist() == [2]


def test_features_are_those_of_scikit_learn() -> None:
    texts = [" the cat sat on the mat ", " the dog ", " a cat and a cat ", " mat ", " the the the "]
    words = sorted({word for text in texts for word in text.split()})
    rows = [[2 + words.index(word) for word in text.split()] for text in texts]
    data = unlabelled(rows, texts)
    rows_with = np.zeros(2 * BUCKETS, np.int64)
    for piece in counted(data, SPANS):
        rows_with += np.bincount(piece.slot, minlength=2 * BUCKETS)
    slots = kept(rows_with, len(data), 10**6)
    idf = np.log((1 + len(data)) / (1 + rows_with[slots])) + 1
    idf = np.concatenate([[0], idf]).astype(np.float32)
    index = np.zeros(2 * BUCKETS, np.int32)
    index[slots] = np.arange(1, 1 + len(slots))
    x = weighted(next(counted(data, SPANS)), index, idf)

    for columns, vectorizer in (
        (slots < BUCKETS, CountVectorizer(analyzer=lambda row: grams_of(row, 1, 2))),
        (slots >= BUCKETS, CountVectorizer(analyzer=lambda row: grams_of(row, 2, 4))),
    ):
        given = rows if columns[0] else texts
        counts = vectorizer.fit_transform(given)
        expected = TfidfTransformer(sublinear_tf=True).fit_transform(counts).toarray()
        assert columns.sum() == expected.shape[1]  # no two n-grams have one hash
        found = x.toarray()[:, columns]
        np.testing.assert_allclose(np.sort(found, axis=1), np.sort(expected, axis=1), rtol=1e-5)
        np.testing.assert_allclose(found @ found.T, expected @ expected.T, rtol=1e-5, atol=1e-6)


def grams_of(row: Sequence[object], shortest: int, longest: int) -> list[tuple[object, ...]]:
    return [
        tuple(row[i : i + n]) for n in range(shortest, longest + 1) for i in range(len(row) - n + 1)
    ]


def test_the_script_tells_which_characters_are_read() -> None:
    def spans(*texts: str) -> Spans:
        return spans_of(unlabelled([[1]] * len(texts), [f" {text} " for text in texts]))

    assert spans("a film of words", "and another one") == ((1, 2), (2, 5))
    assert spans("中欧旗下基金业绩排名", "今天天气") == ((1, 2), (1, 4))
    assert spans_of(unlabelled([[1]])) == ((1, 2), (0, 0))


def test_the_most_frequent_ngrams_are_kept_and_common_characters_are_not() -> None:
    rows_with = np.zeros(2 * BUCKETS, np.int64)
    rows_with[[3, 5, 7]] = [900, 2, 1]
    rows_with[[BUCKETS, BUCKETS + 1, BUCKETS + 2]] = [101, 100, 3]
    assert kept(rows_with, 1000, 99).tolist() == [3, 5, 7, BUCKETS + 1, BUCKETS + 2]
    assert kept(rows_with, 1010, 99).tolist() == [3, 5, 7, BUCKETS, BUCKETS + 1, BUCKETS + 2]
    assert kept(rows_with, 1000, 3).tolist() == [3, BUCKETS + 1, BUCKETS + 2]


def test_pieces_are_stacked_in_order() -> None:
    data = unlabelled([[2, 3], [4], [1], [3, 3, 5]])
    index, idf = np.zeros(2 * BUCKETS, np.int32), np.array([0, 1, 1, 1], np.float32)
    index[[2, 3, 5]] = [1, 2, 3]
    pieces = [weighted(next(counted(rows, SPANS)), index, idf) for rows in one_by_one(data)]
    x = stacked(iter(pieces), (4, 3), 99).toarray()
    assert x.dtype == np.float64
    np.testing.assert_allclose(x, weighted(next(counted(data, SPANS)), index, idf).toarray())
    assert (x[[1, 2]] == 0).all()


def one_by_one(data: TokenDataset) -> list[TokenDataset]:
    return [data.chosen(np.array([row])) for row in range(len(data))]
