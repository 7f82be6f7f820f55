from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmcls.cli import BadInput
from lstmcls.splitting import FATES, NO_LABEL, NO_TEXT, TRAIN, apportion, fates, sample, split_rows


def digests(texts: str) -> np.ndarray:
    return np.array([[ord(text), 7] for text in texts], np.uint64).reshape(-1, 2)


def names(texts: str, codes: list[int], first_test: int | None = None) -> list[str]:
    split = len(codes) if first_test is None else first_test
    return [FATES[i] for i in fates(digests(texts), np.array(codes, np.int32), split)]


def test_duplicates_keep_the_first_and_contradictions_keep_none() -> None:
    assert names("abacbb", [0, 0, 0, 1, 1, 0]) == [
        "train", "contradictory", "duplicates", "train", "contradictory", "contradictory",
    ]  # fmt: skip


def test_rows_without_label_or_text_contradict_nobody() -> None:
    assert names("aab", [NO_LABEL, 0, NO_TEXT]) == ["missing_label", "train", "empty"]


def test_an_official_test_set_is_whole_and_leaves_training() -> None:
    assert names("abaccd", [0, 1, 0, 0, 1, NO_TEXT], first_test=3) == [
        "train", "train", "duplicates", "test", "test", "empty",
    ]  # fmt: skip
    assert names("abab", [0, 1, 1, 1], first_test=2)[:2] == ["found_in_test", "found_in_test"]


def test_no_rows() -> None:
    assert names("", []) == []


shares_of_three = st.tuples(*[st.floats(0.01, 1)] * 3).map(lambda s: [x / sum(s) for x in s])


@given(rows=st.integers(3, 10_000), shares=shares_of_three)
def test_apportion_gives_away_every_row_and_leaves_nobody_without(
    rows: int, shares: list[float]
) -> None:
    counts = apportion(rows, shares)
    assert sum(counts) == rows
    assert min(counts) >= 1
    assert all(abs(n - rows * share) < 3 for n, share in zip(counts, shares, strict=True))


def test_apportion_is_exact_where_it_can_be() -> None:
    assert apportion(10, [0.8, 0.1, 0.1]) == [8, 1, 1]
    assert apportion(1000, [0.7, 0.2, 0.1]) == [700, 200, 100]


def test_splits_are_stratified_and_depend_on_the_seed_alone() -> None:
    codes = np.array([0] * 800 + [1] * 200, np.int32)
    done = []
    for seed in (0, 0, 1):
        fate = np.full(1000, TRAIN, np.int8)
        split_rows(fate, codes, ["a", "b"], (0.8, 0.1, 0.1), seed)
        assert [np.sum(fate[codes == c] == s) for c in (0, 1) for s in (0, 1, 2)] == [
            640, 80, 80, 160, 20, 20,
        ]  # fmt: skip
        done.append(fate)
    assert (done[0] == done[1]).all()
    assert (done[0] != done[2]).any()


def test_a_sample_is_part_of_what_was_chosen() -> None:
    chosen = np.arange(1000) % 2 == 0
    assert sample(chosen, 500, seed=0) is chosen
    drawn = sample(chosen, 100, seed=0)
    assert drawn.sum() == 100
    assert not (drawn & ~chosen).any()
    assert drawn[500:].any()  # not from the start alone
    assert (drawn == sample(chosen, 100, seed=0)).all()
    assert (drawn != sample(chosen, 100, seed=1)).any()


def test_a_class_too_small_is_named() -> None:
    with pytest.raises(BadInput, match=r"class 'rare' has 2 usable rows, fewer than the 3 splits"):
        split_rows(
            np.full(6, TRAIN, np.int8),
            np.array([0, 0, 0, 0, 1, 1]),
            ["x", "rare"],
            (0.8, 0.1, 0.1),
            0,
        )
