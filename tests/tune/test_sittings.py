"""What counts as time at work, and what was typed at each sitting."""

from __future__ import annotations

from datetime import datetime

import optuna
from fakes import a_report
from optuna.trial import TrialState, create_trial

from tune.sittings import START, begin_sitting, commands, seconds_spent, starts, work_clock
from tune.study import REPORT


def a_study(*events: float, began: tuple[float, ...] = ()) -> optuna.Study:
    """Sittings that began then, and failed trials whose only report, and whose end, was then."""
    study = optuna.create_study()
    for number, start in enumerate(began):
        study.set_user_attr(f"{START}{number}", start)
    for time in events:
        report = {**a_report(1, 0.5), "time": time}
        trial = create_trial(state=TrialState.FAIL, user_attrs={f"{REPORT}1": report})
        trial.datetime_complete = datetime.fromtimestamp(time)
        study.add_trial(trial)
    return study


def test_sittings_are_kept_in_their_order() -> None:
    study = a_study()
    typed = [f"--trials {n}" for n in range(12)]  # more than one digit
    for command in typed:
        begin_sitting(study, command)
    assert commands(study) == typed
    assert len(starts(study)) == 12
    assert starts(study) == sorted(starts(study))


def test_time_at_work_leaves_out_the_time_between_sittings() -> None:
    studies = [a_study(110, 160, 1005, 1030, began=(100, 1000))]
    worked = work_clock(studies)
    assert [worked(t) for t in (100, 110, 160, 1000, 1005, 1030)] == [0, 10, 60, 60, 65, 90]
    assert seconds_spent(studies) == 90


def test_what_the_confirmation_wrote_is_time_at_work_too() -> None:
    studies = [a_study(200, 1010, began=(100, 1000)), a_study(250)]
    assert seconds_spent(studies) == 160
    assert work_clock(studies)(1010) == 160


def test_a_journal_that_knows_no_sittings() -> None:
    assert work_clock([a_study(50, 70)])(70) == 20
    assert seconds_spent([a_study()]) == 0
