"""Folds: every row held out a single time, as views of one copy; rows joined and taken apart."""

from __future__ import annotations

import dataclasses
import random
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmcls.dataset import TokenDataset, joined, unlabelled
from lstmcls.folds import assign, divide, one_split

Row = tuple[tuple[int, ...], int, str | None]


def some_rows(count: int, seed: int, classes: int = 3, letters: bool = True) -> TokenDataset:
    """Rows that are all different, so that a row is known by what it holds."""
    draw = random.Random(seed)
    ids = [[k + 1, *draw.choices(range(1, 9), k=draw.randint(0, 4))] for k in range(count)]
    texts = [f"row {k}" + "x" * draw.randint(0, 3) for k in range(count)] if letters else None
    labels = np.array([draw.randrange(classes) for _ in range(count)], np.int32)
    return dataclasses.replace(unlabelled(ids, texts), labels=labels)


def rows_of(data: TokenDataset) -> list[Row]:
    found: list[Row] = []
    for k, label in enumerate(data.labels.tolist()):
        text = None
        if data.characters is not None and data.character_offsets is not None:
            units = data.characters[data.character_offsets[k] : data.character_offsets[k + 1]]
            text = units.tobytes().decode("utf-16-le")
        ids = data.ids[data.offsets[k] : data.offsets[k + 1]]
        found.append((tuple(ids.tolist()), label, text))
    return found


SIZES = st.tuples(st.integers(2, 9), st.integers(0, 40)).map(lambda pair: (pair[0], sum(pair)))


@given(sizes=SIZES, seed=st.integers(0, 99), letters=st.booleans())
def test_every_row_is_held_out_a_single_time(
    sizes: tuple[int, int], seed: int, letters: bool
) -> None:
    count, rows = sizes
    pool = some_rows(rows, seed, letters=letters)
    folds = divide(pool, count, seed)
    assert folds.size == len(pool)
    held_out = [rows_of(folds.held_out(fold)) for fold in range(count)]
    assert sorted(chain.from_iterable(held_out)) == sorted(rows_of(pool))
    for fold in range(count):
        train = rows_of(folds.train(fold))
        assert sorted(train + held_out[fold]) == sorted(rows_of(pool))


@given(sizes=SIZES, more=st.integers(1, 30), seed=st.integers(0, 99))
def test_test_rows_are_in_one_fold_each_and_train_the_others(
    sizes: tuple[int, int], more: int, seed: int
) -> None:
    count, rows = sizes
    everything = some_rows(rows + more, seed)
    pool, test = everything.between(0, rows), everything.between(rows, rows + more)
    folds = divide(pool, count, seed, test=test)
    for fold in range(count):
        held_out, tested = rows_of(folds.held_out(fold)), rows_of(folds.test(fold))
        assert set(held_out) <= set(rows_of(pool))
        assert tested == rows_of(test.chosen(folds.origin[fold]))
        train = rows_of(folds.train(fold))
        assert sorted(train + held_out + tested) == sorted(rows_of(everything))
    assert sorted(np.concatenate(folds.origin)) == list(range(more))


def test_without_test_rows_none_are_in_a_fold() -> None:
    folds = divide(some_rows(30, 0), 3, 0)
    assert [len(folds.test(fold)) for fold in range(3)] == [0, 0, 0]


@given(sizes=SIZES, seed=st.integers(0, 99), classes=st.integers(1, 5))
def test_rows_and_classes_are_spread_evenly(
    sizes: tuple[int, int], seed: int, classes: int
) -> None:
    count, rows = sizes
    labels = some_rows(rows, seed, classes).labels
    fold_of = assign(labels, count, seed)
    np.testing.assert_array_equal(fold_of, assign(labels, count, seed))
    assert np.ptp(np.bincount(fold_of, minlength=count)) <= 1
    for label in range(classes):
        assert np.ptp(np.bincount(fold_of[labels == label], minlength=count)) <= 1


def test_another_seed_is_another_division() -> None:
    labels = some_rows(60, 0).labels
    assert (assign(labels, 3, 0) != assign(labels, 3, 1)).any()


@pytest.mark.parametrize("letters", [True, False])
def test_no_fold_is_a_copy(letters: bool) -> None:
    folds = divide(some_rows(50, 1, letters=letters), 5, seed=2)
    for fold in range(5):
        for part in (folds.held_out(fold), folds.train(fold)):
            assert np.shares_memory(part.ids, folds.rows.ids)
            assert np.shares_memory(part.labels, folds.rows.labels)
            if letters:
                assert part.characters is not None
                assert folds.rows.characters is not None
                assert np.shares_memory(part.characters, folds.rows.characters)
            else:
                assert part.characters is None


@pytest.mark.parametrize("used", [1, 2, 3])
def test_of_folds_that_are_not_used_nothing_is_repeated(used: int) -> None:
    pool = some_rows(40, 3)
    folds, whole = divide(pool, 4, 5, used=used), divide(pool, 4, 5)
    assert folds.bounds == whole.bounds
    assert len(folds.rows) == len(pool) + whole.bounds[used - 1]
    for fold in range(used):
        assert rows_of(folds.train(fold)) == rows_of(whole.train(fold))
        assert rows_of(folds.held_out(fold)) == rows_of(whole.held_out(fold))
    assert len(divide(pool, 4, 5, used=1).rows) == len(pool)


def test_one_split_holds_out_its_validation_rows() -> None:
    train, val = some_rows(20, 6), some_rows(5, 7)
    folds = one_split(train, val)
    assert rows_of(folds.held_out(0)) == rows_of(val)
    assert rows_of(folds.train(0)) == rows_of(train)
    assert folds.size == len(folds.rows) == 25


@given(
    counts=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    letters=st.lists(st.booleans(), min_size=4, max_size=4),
    cut=st.tuples(st.integers(0, 24), st.integers(0, 24)),
)
def test_joined_rows_are_the_rows_of_the_parts(
    counts: list[int], letters: list[bool], cut: tuple[int, int]
) -> None:
    """Without characters where a part has none."""
    parts = [some_rows(n, k, letters=letters[k]) for k, n in enumerate(counts)]
    everywhere = all(letters[: len(parts)])
    kept = [part if everywhere else part.tokens_only() for part in parts]
    wanted = list(chain.from_iterable(map(rows_of, kept)))
    whole = joined(parts)
    assert rows_of(whole) == wanted
    assert (whole.characters is not None) == everywhere
    start, end = sorted(min(each, len(wanted)) for each in cut)
    assert rows_of(whole.between(start, end)) == wanted[start:end]
    assert whole.between(start, end).offsets[0] == 0


def test_tokens_only_are_the_same_arrays() -> None:
    data = some_rows(4, 0)
    tokens = data.tokens_only()
    assert tokens.characters is None
    assert tokens.character_offsets is None
    assert tokens.ids is data.ids
    assert tokens.offsets is data.offsets
    assert rows_of(tokens) == [(ids, label, None) for ids, label, _ in rows_of(data)]
