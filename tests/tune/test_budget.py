"""What a budget leaves over several sittings, and what a resumed search may ask for."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import optuna
import pytest
from fakes import finished, small_space
from optuna.trial import TrialState, create_trial

from lstmcls.cli import BadInput
from tune.budget import Left, begun, left, require_no_less, used_up
from tune.sittings import START, record_cut
from tune.space import Budget
from tune.study import SEARCH, open_study, requeue

NONE = optuna.create_study()


def a_study(*ends: float, began: tuple[float, ...] = ()) -> optuna.Study:
    """Sittings that began then, in seconds, and trials that ended then."""
    study = optuna.create_study()
    for number, start in enumerate(began):
        study.set_user_attr(f"{START}{number}", start)
    for end in ends:
        trial = create_trial(state=TrialState.FAIL)
        trial.datetime_complete = datetime.fromtimestamp(end)
        study.add_trial(trial)
    return study


def minutes_left(minutes: float | None, *studies: optuna.Study, top: int = 2) -> tuple[object, ...]:
    found = left(small_space(budget={"minutes": minutes}, confirm={"top": top}), *studies)
    return tuple(None if s is None else round(s / 60, 6) for s in (found.search, found.all))


def test_a_first_sitting_keeps_time_for_the_confirmation() -> None:
    assert minutes_left(10, a_study(), NONE) == (5, 10)
    assert minutes_left(10, a_study(), NONE, top=0) == (10, 10)
    assert minutes_left(None, a_study(), NONE) == (None, None)


def test_twice_the_minutes_search_as_long_again() -> None:
    search, confirmation = a_study(5 * 60, began=(0,)), a_study(10 * 60)
    assert minutes_left(10, search, confirmation) == (0, 0)
    assert minutes_left(20, search, confirmation) == (5, 10)
    assert minutes_left(15, search, confirmation) == (2.5, 5)


def test_a_confirmation_that_was_quick_leaves_more() -> None:
    assert minutes_left(20, a_study(5 * 60, began=(0,)), a_study(6 * 60)) == (5, 14)


def test_a_confirmation_that_was_long_leaves_the_next_its_share() -> None:
    assert minutes_left(8, a_study(60, began=(0,)), a_study(5 * 60)) == (1.5, 3)


def test_two_sittings_of_one_search_are_one() -> None:
    search = a_study(2 * 60, 1000 * 60 + 60, began=(0, 1000 * 60))
    assert minutes_left(10, search, NONE) == (2, 7)


def test_what_is_used_up_is_said_and_what_goes_on() -> None:
    three = a_study(1, 2, 3)
    three.enqueue_trial({})  # in the queue: not begun
    assert used_up(Budget(4, 10), three, Left(1, 2)) is None
    assert "3 trials" in str(used_up(Budget(3), three, Left(None, None)))
    assert "--trials" in str(used_up(Budget(3), three, Left(None, None)))
    said = str(used_up(Budget(None, 10), three, Left(0, 4)))
    assert "10 minutes" in said
    assert "--minutes" in said


def an_unfinished_trial(study: optuna.Study) -> None:
    """In the queue, with parameters: what an interrupt or the clock leaves."""
    trial = study.ask()
    trial.suggest_int("batch_size", 8, 16)
    requeue(study, trial.number, "time is up")


def test_what_was_cut_short_has_begun_and_can_go_on(tmp_path: Path) -> None:
    study = open_study(tmp_path / "j", SEARCH, small_space().objective)
    finished(study, small_space().suggest, [0.5])
    an_unfinished_trial(study)
    assert begun(study) == 2
    assert used_up(Budget(2, 10), study, Left(1, 2)) is None
    assert "minutes is over" in str(used_up(Budget(2, 10), study, Left(0, 4)))
    with pytest.raises(BadInput, match=r"--trials 1: .* and 2 have begun"):
        require_no_less(Budget(1), Budget(50), [study])


def test_the_clock_runs_until_the_trials_are_cut_short() -> None:
    search, confirmation = a_study(2 * 60, began=(0,)), a_study()
    record_cut(search, 5 * 60)
    assert minutes_left(10, search, confirmation) == (0, 5)
    record_cut(confirmation, 5 * 60)
    assert minutes_left(10, search, confirmation) == (0, 0)
    record_cut(search, 10 * 60)
    assert minutes_left(20, search, confirmation) == (0, 5)


@pytest.mark.parametrize("asked", [Budget(3), Budget(99), Budget(None, 5), Budget(None, 99)])
def test_a_larger_budget_is_fine(asked: Budget) -> None:
    require_no_less(asked, Budget(50, 1), [a_study(1, 2, 5 * 60, began=(0,))])


def test_the_same_budget_again_is_fine() -> None:
    require_no_less(Budget(50, 1), Budget(50, 1), [a_study(1, 2, 5 * 60, began=(0,))])


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (Budget(2), "--trials 2: counts all trials of the run, and 3 have begun; --trials 5 is 2"),
        (
            Budget(None, 4),
            "--minutes 4: counts all time of the run, and 5 have been spent; --minutes 9 is 4",
        ),
        (Budget(None, 0.2), "--minutes 0.2: counts all time of the run, and 5 have been spent; "),
    ],
)
def test_a_budget_that_is_exceeded_already(asked: Budget, says: str) -> None:
    with pytest.raises(BadInput, match=says.replace(".", r"\.")):
        require_no_less(asked, Budget(50, 30), [a_study(1, 2, 5 * 60, began=(0,))])
