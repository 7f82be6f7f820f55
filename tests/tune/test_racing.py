"""Who leaves a race: never the best by more than the stated error, the clearly worse soon."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tune.confirmation.racing import FEWEST_DISTINCT, clearly_behind

Array = NDArray[Any]


def race(
    rng: np.random.Generator, shares: Array, rows: int, folds: int, deviation: float
) -> dict[int, int]:
    """Of candidates of these accuracies, those dropped, and after how many folds.

    Six in ten answers are the same for all; networks vary by `deviation`, as correlated over the
    folds as Nadeau & Bengio say.
    """
    count = len(shares)
    fold, common = np.arange(rows) % folds, rng.random(rows)
    networks = deviation * (
        math.sqrt(1 / folds) * rng.normal(size=(count, 1))
        + math.sqrt(1 - 1 / folds) * rng.normal(size=(count, folds))
    )
    draws = np.where(rng.random((count, rows)) < 0.6, common, rng.random((count, rows)))
    right = (draws < shares[:, None] + networks[:, fold]).astype(float)
    dropped: dict[int, int] = {}
    for finished in range(1, folds):
        done = fold < finished
        alive = [c for c in range(count) if c not in dropped]
        leader = max(alive, key=lambda c: right[c, done].mean())
        for c in alive:
            others = [right[o, done] for o in alive if o not in (c, leader)]
            if c != leader and clearly_behind(
                right[c, done], right[leader, done], fold[done],
                folds_in_all=folds, candidates=count, others=others,
            ):  # fmt: skip
                dropped[c] = finished
    return dropped


@pytest.mark.parametrize(
    ("candidates", "rows", "folds", "deviation"),
    [
        (8, 1000, 5, 0.0),
        (8, 1000, 5, 0.03),
        (3, 1000, 5, 0.03),
        (6, 500, 10, 0.02),
        (8, 100, 5, 0.01),
    ],
)
def test_among_equals_each_stays(candidates: int, rows: int, folds: int, deviation: float) -> None:
    rng, races = np.random.default_rng(0), 150
    lost = sum(
        0 in race(rng, np.full(candidates, 0.9), rows, folds, deviation) for _ in range(races)
    )
    # 0.05 at most in a whole race: 14 or more of 150 have then a chance of 0.02.
    assert lost <= 13


def test_the_clearly_worse_leave_early_and_the_best_stays() -> None:
    rng = np.random.default_rng(1)
    shares = np.array([0.9, *[0.78] * 7])
    races = [race(rng, shares, 1000, 5, 0.01) for _ in range(20)]
    assert all(0 not in dropped for dropped in races)
    early = [c for dropped in races for c, finished in dropped.items() if finished <= 3]
    assert len(early) >= 0.8 * 20 * 7


def behind(lead: Array, folds: Array, **kwargs: Any) -> bool:
    """Whether one is dropped that has 0.5 on every row, where the leader has `lead` more."""
    ours = np.full(len(lead), 0.5)
    return clearly_behind(ours, ours + lead, folds, **{"folds_in_all": 5, "candidates": 2} | kwargs)


def test_what_is_needed_before_anyone_leaves() -> None:
    rng = np.random.default_rng(2)
    folds = np.arange(1000) // 250
    lead = np.where(rng.random(1000) < 0.4, 0.4, 0.0) + rng.normal(0, 0.01, 1000)
    assert behind(lead, folds)
    assert not behind(-lead, folds)
    assert not behind(lead, np.zeros(1000))  # one fold
    few = np.zeros(1000)
    few[:: 1000 // (FEWEST_DISTINCT - 2)][: FEWEST_DISTINCT - 1] = 1.0
    assert not behind(few, folds)  # nearly all rows alike
    ahead = np.where(folds == 0, -0.001, lead)
    assert not behind(ahead, folds)  # ahead in one fold


def test_more_comparisons_ask_for_more() -> None:
    rng = np.random.default_rng(3)
    folds = np.arange(400) % 3
    lead = rng.normal(0.35, 1.0, 400)
    assert behind(lead, folds, folds_in_all=4, error=0.4)
    assert not behind(lead, folds, folds_in_all=4, error=0.4, candidates=2000)


def test_other_candidates_say_how_much_networks_vary() -> None:
    rng = np.random.default_rng(4)
    folds = np.arange(400) % 2
    lead = rng.normal(0.5, 1.0, 400)
    assert not behind(lead, folds)  # two folds of one pair: a t of one degree of freedom
    steady = [0.2 + rng.normal(0, 0.1, 400) for _ in range(8)]
    assert behind(lead, folds, candidates=10, others=steady)
    unsteady = [values + rng.normal(0, 1.0, 2)[folds] for values in steady]
    assert not behind(lead, folds, candidates=10, others=unsteady)
