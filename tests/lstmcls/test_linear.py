"""The linear model that an LSTM has to beat."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmcls import linear
from lstmcls.dataset import Prepared, TokenDataset, unlabelled
from lstmcls.linear import BUCKETS, NGRAM, linear_metrics, ngram_counts

texts = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), min_size=1, max_size=6)


@settings(max_examples=50, deadline=None)
@given(texts)
def test_ngrams_are_counted_within_each_row(rows: list[list[int]]) -> None:
    counts = ngram_counts(unlabelled(rows))
    assert counts.shape == (len(rows), BUCKETS)
    for row, tokens in enumerate(rows):
        grams = [tokens[i : i + n] for n in range(1, NGRAM + 1) for i in range(len(tokens) - n + 1)]
        expected = Counter(
            functools.reduce(lambda hashed, token: (hashed * 1_000_003 + token) % BUCKETS, gram)
            for gram in grams
        )
        found = counts[row].tocoo()
        assert dict(zip(found.col.tolist(), found.data.tolist(), strict=True)) == expected


@pytest.mark.parametrize(("metric", "mode"), [("val_accuracy", "max"), ("val_loss", "min")])
def test_it_learns_and_the_best_strength_is_kept(
    metric: str, mode: str, prepared: Prepared
) -> None:
    splits = prepared.splits
    found = linear_metrics(splits["train"], splits["val"], 2, metric, mode)
    assert found["accuracy"] > 0.9
    assert found["loss"] < 0.4
    assert found["train_rows"] == len(splits["train"])


def _labelled(rows: Sequence[Sequence[int]], labels: Sequence[int]) -> TokenDataset:
    data = unlabelled([list(row) for row in rows])
    return dataclasses.replace(data, labels=np.array(labels, np.int32))


def test_a_class_that_is_not_trained_is_never_likely() -> None:
    train = _labelled([[1, 2], [3, 4]] * 5, [0, 2] * 5)
    found = linear_metrics(train, _labelled([[1, 2], [3, 4], [5]], [0, 2, 1]), 3, "val_loss", "min")
    assert found["accuracy"] == pytest.approx(2 / 3, abs=1e-6)
    assert linear_metrics(_labelled([[1]], [0]), train, 3, "val_loss", "min") == {}


def test_of_many_classes_the_most_frequent_ngrams_are_kept(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = ngram_counts(prepared.splits["train"])
    rows_with = np.bincount(counts.indices, minlength=BUCKETS)
    monkeypatch.setattr(linear, "MOST_WEIGHTS", 20)
    kept = linear._known(counts, classes=2)
    assert len(kept) == 10
    assert min(rows_with[kept]) >= max(np.delete(rows_with, kept))


def test_of_long_rows_as_many_are_drawn_as_fit_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [[1 + (number + at) % 7 for at in range(1 + number % 50)] for number in range(400)]
    data = _labelled(rows, [number % 2 for number in range(400)])
    monkeypatch.setattr(linear, "MOST_TOKENS", 3000)
    found = linear_metrics(data, data, 2, "val_loss", "min")
    drawn = linear._drawn(data, most=400)
    assert found["train_rows"] == found["val_rows"] == len(drawn)
    assert 2900 < len(drawn.ids) <= 3000
    monkeypatch.setattr(linear, "MOST_TOKENS", len(data.ids))
    assert linear._drawn(data, most=400) is data
    assert len(linear._drawn(data, most=100)) == 100
