"""Candidates compared by what they say of held-out rows, and the race between them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from fakes import in_memory
from fold_runs import FOLDS, ROWS, Field
from optuna.trial import TrialState

from tune.confirmation.candidates import BEHIND, UNSTABLE, enqueue_points, point
from tune.confirmation.out_of_fold import common_folds, in_the_race, rank, summary

folder = pytest.fixture(in_memory)


# What is known of rows.


def test_rows_come_one_fold_after_the_other(folder: Path) -> None:
    field = Field(folder, 1)
    for _ in range(FOLDS):
        field.run(0.8)
    (candidate,) = field.now()
    for folds in ([0, 1, 2], [2, 0], [1]):
        labels, fold_of = field.found.labels(folds), field.found.fold_of(folds)
        logs = field.found.logs(candidate, folds)
        assert len(labels) == len(fold_of) == len(logs) == ROWS / FOLDS * len(folds)
        for fold in folds:
            held = field.folds.held_out(fold)
            np.testing.assert_array_equal(labels[fold_of == fold], held.labels)
        scores = field.found.scores(candidate, folds)
        right = logs.argmax(axis=1) == labels
        np.testing.assert_allclose(scores, right)
        assert field.found.cost(candidate, folds) == pytest.approx(-right.mean())
        value, *_ = field.found.value(candidate, folds)
        assert value == pytest.approx(right.mean())


def test_of_a_loss_less_is_better(folder: Path) -> None:
    field = Field(folder, 2, objective="val_loss")
    for share in (0.6, 0.9):
        field.run(share)
    worse, better = field.now()
    assert field.found.cost(better, [0]) < field.found.cost(worse, [0])
    assert field.found.scores(better, [0]).mean() > field.found.scores(worse, [0]).mean()
    assert [c.trial for c in rank([worse, better], field.found)] == [1, 0]


def test_a_run_whose_file_is_lost_or_damaged_is_left_out_and_named(folder: Path) -> None:
    field = Field(folder, 1)
    for _ in range(FOLDS):
        field.run(0.8)
    places = [Path(str(field.store)) / f"confirmation-0000{k}" for k in range(3)]
    (places[0] / "held-out.safetensors").unlink()
    (places[2] / "held-out.safetensors").write_bytes(b"\x08")
    (candidate,) = field.now()
    assert list(candidate.runs) == [1]
    assert [note.split(" (")[0] for note in field.notes] == [
        f"what run {k} of the confirmation said cannot be read" for k in (0, 2)
    ]


def test_the_summary_of_a_candidate(folder: Path) -> None:
    field = Field(folder, 1)
    for _ in range(FOLDS - 1):
        field.run(0.8)
    (candidate,) = field.now()
    found = summary(candidate, field.found, FOLDS)
    assert (found["trial"], found["folds"], found["of"], found["left"]) == (0, 2, 3, "")
    assert found["values"] == [0.8, 0.8]
    assert all(math.isnan(end) for end in found["interval"])  # of two folds
    field.run(0.8)
    (candidate,) = field.now()
    low, high = summary(candidate, field.found, FOLDS)["interval"]
    assert low < found["value"] < high


# The ranking.


def test_the_best_on_all_rows_comes_first(folder: Path) -> None:
    field = Field(folder, 3)
    for _ in range(FOLDS):
        for share in (0.7, 0.9, 0.8):
            field.run(share)
    assert [c.trial for c in rank(field.now(), field.found)] == [1, 2, 0]


def test_equals_come_in_the_order_of_their_numbers(folder: Path) -> None:
    field = Field(folder, 3)
    for _ in range(FOLDS):
        for _ in range(3):
            field.run(0.8, own=0.0)
    ranked = rank(field.now()[::-1], field.found)
    assert [c.trial for c in ranked] == [0, 1, 2]


def test_one_fold_short_is_compared_on_the_folds_of_both(folder: Path) -> None:
    """The fold that it lacks is an easy one, which would flatter the other."""
    field = Field(folder, 2)
    for _ in range(2):
        for share in (0.6, 0.7):
            field.run(share)
    field.run(1.0)
    first, second = field.now()
    assert (len(first.runs), len(second.runs)) == (3, 2)
    assert field.found.cost(first, [0, 1, 2]) < field.found.cost(second, [0, 1])
    assert [c.trial for c in rank([first, second], field.found)] == [1, 0]
    assert common_folds([first, second]) == [0, 1]


def test_fewer_folds_than_that_are_never_compared_as_equal(folder: Path) -> None:
    """However good it was there: one fold says little."""
    field = Field(folder, 2)
    for share in (0.7, 1.0, 0.7):
        field.run(share)
    field.passes()
    field.run(0.7)
    first, second = field.now()
    assert (len(first.runs), len(second.runs)) == (3, 1)
    assert field.found.cost(second, [0]) < field.found.cost(first, [0])
    assert [c.trial for c in rank([first, second], field.found)] == [0, 1]
    assert in_the_race([first, second]) == [first]


def test_who_left_comes_after_who_stayed(folder: Path) -> None:
    field = Field(folder, 2)
    for _ in range(2):
        for share in (0.7, 0.9):
            field.run(share)
    field.run(0.7)
    field.fails()
    first, second = field.now()
    assert second.left == "diverged: the loss is nan"
    assert [c.trial for c in rank([first, second], field.found)] == [0, 1]
    assert in_the_race([first, second]) == [first]


def test_without_runs_there_is_no_rank(folder: Path) -> None:
    field = Field(folder, 2)
    assert rank(field.now(), field.found) == []
    assert common_folds([]) == []
    field.run(0.5)
    assert [c.trial for c in rank(field.now(), field.found)] == [0]


# The race.


def test_one_fold_decides_nothing(folder: Path) -> None:
    field = Field(folder, 2)
    for share in (0.95, 0.55):
        field.run(share)
        field.race.update()
    assert field.waiting() == {0, 1}
    assert field.notes == []


def test_who_is_clearly_behind_leaves_and_says_so(folder: Path) -> None:
    field = Field(folder, 3)
    for _ in range(2):
        for share in (0.95, 0.55, 0.95):
            field.run(share)
            field.race.update()
    assert field.waiting() == {0, 2}
    left = {c.trial: c.left for c in field.now()}
    assert left[1].startswith(BEHIND)
    assert "after 2 folds" in left[1]
    assert field.notes == [f"trial 1 leaves the confirmation: {left[1]}"]
    field.race.update()
    assert len(field.notes) == 1
    states = [t.state for t in field.study.get_trials() if point(t)["candidate"] == 1]
    assert states == [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED]


def test_equals_stay(folder: Path) -> None:
    field = Field(folder, 3, folds=4)
    for _ in range(3):
        for _ in range(3):
            field.run(0.8)
            field.race.update()
    assert field.waiting() == {0, 1, 2}
    assert field.notes == []


def test_who_failed_on_a_fold_leaves(folder: Path) -> None:
    field = Field(folder, 2)
    field.fails()
    field.race.update()
    assert field.waiting() == {1}
    first, _ = field.now()
    assert first.left == "diverged: the loss is nan"
    failed = [t for t in field.study.get_trials() if t.state == TrialState.FAIL]
    assert [t.user_attrs["stopped"] for t in failed[1:]] == [
        f"{UNSTABLE}: diverged: the loss is nan"
    ] * 2


def test_a_failure_takes_no_one_else_along(folder: Path) -> None:
    """The others race on, on the folds that all of them have."""
    field = Field(folder, 4)
    field.fails()
    for _ in range(2):
        for share in (0.95, 0.55, 0.95):
            field.run(share)
            field.race.update()
    assert field.waiting() == {1, 3}


def test_the_next_session_decides_as_this_one(folder: Path) -> None:
    """From the journal and the files alone."""
    field = Field(folder, 3)
    for _ in range(2):
        for share in (0.95, 0.55, 0.95):
            field.run(share)
    again = Field(folder, 3)
    assert len(again.study.get_trials()) == len(field.points)
    again.race.update()
    assert again.waiting() == {0, 2}


def test_nothing_is_decided_on_files_that_are_lost(folder: Path) -> None:
    field = Field(folder, 3)
    for _ in range(2):
        for share in (0.95, 0.55, 0.95):
            field.run(share)
    next(Path(str(field.store)).rglob("held-out*")).unlink()
    field.race.update()
    assert field.waiting() == {0, 1, 2}
    assert "cannot be read" in field.notes[0]


@pytest.mark.parametrize(("seconds", "stay"), [(math.inf, {0, 1, 2}), (2.0, {0, 1}), (0.0, {0})])
def test_where_the_time_is_short_the_leaders_have_it(
    folder: Path, seconds: float, stay: set[int]
) -> None:
    """A run takes 0.5 s by its report, and each candidate has two folds left."""
    field = Field(folder, 3, folds=4)
    field.race.seconds = lambda: seconds
    for _ in range(2):
        for share in (0.82, 0.81, 0.8):
            field.run(share, own=0.0)
    field.race.update()
    assert field.waiting() == stay
    assert all("the minutes suffice for fewer" in note for note in field.notes)
    assert len(field.notes) == 3 - len(stay)
    enqueue_points(field.study, field.points)  # a session with more minutes
    assert field.waiting() == {0, 1, 2}
