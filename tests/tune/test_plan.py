"""How the time of a confirmation is spent: folds first, then candidates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune.confirmation.plan import FEWEST, START, USED, Plan, least_seconds, plan

ROWS = 5_000


def left_for(seconds: float) -> float:
    """What must be left so that so much training of networks fits."""
    return seconds / USED + START


@pytest.mark.parametrize(
    ("rows", "asked", "folds"),
    [
        (5_000, 5, 5),
        (999, 5, 5),
        (999, 20, 20),
        (6, 8, 6),  # a row in each
        (100_000, 8, 3),  # many rows: fewer say as much
        (100_000, 2, 2),
    ],
)
def test_without_an_end_all_begin_on_the_folds_asked_for(rows: int, asked: int, folds: int) -> None:
    assert plan(rows, [10.0, 20.0, 30.0], None, 2, asked) == Plan(folds, 3)
    assert plan(rows, [], None, 2, asked) == Plan(folds, 0)


def test_what_is_asked_for_where_the_time_suffices() -> None:
    # The costliest on 4 folds, the others on 3, each run on 3/4 of the rows.
    exactly = left_for(0.75 * (4 * 30 + 3 * (10 + 20)))
    assert plan(ROWS, [10.0, 20.0, 30.0], exactly + 0.1, 1, 4) == Plan(4, 3)
    assert plan(ROWS, [10.0, 20.0, 30.0], exactly - 0.1, 1, 4) == Plan(4, 2)
    half = START + (exactly - START) / 2
    assert plan(ROWS, [10.0, 20.0, 30.0], half + 0.1, 2, 4) == Plan(4, 3)  # twice the slots


def test_fewer_folds_before_fewer_than_two_candidates() -> None:
    two = [10.0, 10.0]
    enough = left_for(2 / 3 * (3 * 10 + 3 * 10))
    assert plan(ROWS, two, enough + 0.1, 1, 8) == Plan(FEWEST, 2)
    assert plan(ROWS, two, enough - 0.1, 1, 8) == Plan(FEWEST, 1)
    assert plan(ROWS, two, 0.0, 1, 8) == Plan(FEWEST, 1)  # one at least


@given(
    rows=st.integers(12, 10**6),
    seconds=st.lists(st.floats(0, 1e4), min_size=1, max_size=8),
    left=st.floats(0, 1e6),
    more=st.floats(0, 1e6),
    asked=st.integers(2, 12),
    slots=st.integers(1, 16),
)
def test_more_time_is_never_less(
    rows: int, seconds: list[float], left: float, more: float, asked: int, slots: int
) -> None:
    less, larger = (plan(rows, seconds, s, slots, asked) for s in (left, left + more))
    endless = plan(rows, seconds, None, slots, asked)
    assert min(FEWEST, asked) <= less.folds <= larger.folds <= endless.folds
    assert 1 <= less.candidates <= len(seconds)
    if less.folds == larger.folds:
        assert less.candidates <= larger.candidates


def test_what_the_fewest_folds_need() -> None:
    assert least_seconds(30.0, 1) == pytest.approx(left_for(3 * 30 * 2 / 3))
    assert least_seconds(30.0, 2) == pytest.approx(left_for(2 * 30 * 2 / 3))
    assert least_seconds(30.0, 3) == least_seconds(30.0, 64)
