"""Tokenizers compared out of fold, on small data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from conftest import reviews, write_csv

from benchmarks.tokenizing import FOLDS, fold_of_each, labelled, lines
from lstmcls.tokenizer import FREQUENT, MERGED


def test_every_class_is_spread_over_the_folds() -> None:
    labels = np.array([0] * 23 + [1] * 9, np.int32)
    folds = fold_of_each(labels, seed=3)
    for label in (0, 1):
        counts = np.bincount(folds[labels == label], minlength=FOLDS)
        assert counts.max() - counts.min() <= 1


def test_a_text_is_in_one_fold_alone(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [("Good", "p"), ("good ", "p"), ("bad", "n"), (" ", "n")])
    assert labelled(path) == (["Good", "bad"], ["p", "n"])


def test_one_line_a_tokenizer_and_seed(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", reviews(60))
    settings = {"epochs": "1", "hidden_size": "4", "embedding_dim": "4"}
    table = list(lines([path], ["word", "pieces:3"], settings, seeds=2))
    assert [row.split(" | ")[1] for row in table[2:]] == ["word"] * 2 + ["pieces:3"] * 2
    assert MERGED["pieces"] == FREQUENT
    accuracies = [float(row.split(" | ")[2]) for row in table[2:]]
    assert all(0 <= accuracy <= 1 for accuracy in accuracies)
