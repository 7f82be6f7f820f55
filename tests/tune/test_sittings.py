"""What counts as time at work, and what was typed at each sitting."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

import optuna
import pytest
from fakes import Driver, a_report, in_memory, small_space
from optuna.trial import TrialState, create_trial

from tune.sittings import (
    START,
    Clock,
    begin_sitting,
    commands,
    seconds_spent,
    starts,
    worked_until,
)
from tune.study import REPORT, record_report

folder = pytest.fixture(in_memory)


def a_study(*events: float, began: tuple[float, ...] = ()) -> optuna.Study:
    """Sittings that began then, and failed trials whose only report, and whose end, was then."""
    study = optuna.create_study()
    for number, start in enumerate(began):
        study.set_user_attr(f"{START}{number}", start)
    for when in events:
        report = {**a_report(1, 0.5), "time": when}
        trial = create_trial(state=TrialState.FAIL, user_attrs={f"{REPORT}1": report})
        trial.datetime_complete = datetime.fromtimestamp(when)
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
    search = a_study(110, 160, 1005, 1030, began=(100, 1000))
    worked = worked_until(search)
    times = (100, 110, 160, 1000, 1005, 1030)
    assert [worked({"time": t}) for t in times] == [0, 10, 60, 60, 65, 90]
    assert seconds_spent([search]) == 90


def test_what_the_confirmation_wrote_is_time_at_work_too() -> None:
    studies = [a_study(200, 1010, began=(100, 1000)), a_study(250)]
    assert seconds_spent(studies) == 160
    assert seconds_spent(studies[:1]) == 110


def test_a_journal_that_knows_no_sittings() -> None:
    assert worked_until(a_study(50, 70))({"time": 70}) == 20
    assert seconds_spent([a_study()]) == 0


def test_a_machine_that_slept_in_a_sitting_was_not_at_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lid is closed for eight hours: the wall clock goes on, the monotonic one does not."""
    driver = Driver(folder, small_space(), trials=3)
    begin_sitting(driver.study, "python -m tune.search")
    driver.train(driver.start(), 0.5, 0.5, 0.5)
    slept = time.time() + 8 * 3600
    monkeypatch.setattr(time, "time", lambda: slept)
    driver.train(driver.start(), 0.5, 0.5, 0.5)
    spent = seconds_spent([driver.study])
    assert 0 < spent < 3600
    last = driver.frozen(1).user_attrs["report_3"]
    assert worked_until(driver.study)(last) <= spent


def test_the_next_sitting_counts_on(folder: Path) -> None:
    """By the wall clock what an earlier version wrote, and from there on by the other."""
    driver = Driver(folder, small_space(), trials=3)
    driver.study.set_user_attr(f"{START}0", time.time() - 1000)
    trial = driver.start()
    record_report(driver.study, driver.bridge.running[0], a_report(1, 0.5))  # without a stamp
    before = seconds_spent([driver.study])
    assert before == pytest.approx(1000, abs=100)

    driver = Driver(folder, small_space(), trials=3)
    begin_sitting(driver.study, "python -m tune.search --resume DIR")
    trial = driver.start()
    driver.report(trial, 0.6)
    assert before <= seconds_spent([driver.study]) < before + 500  # not 1000 once more
    driver.fail(trial, "diverged")
    last = seconds_spent([driver.study])
    assert last == driver.frozen(0).user_attrs["worked"]  # the end of a trial counts too


def test_each_study_has_its_own_clock() -> None:
    """Unlike stamps: the search's share of a budget is not used up by the confirmation."""
    search, confirmation = optuna.create_study(), optuna.create_study()
    for study, worked in ((search, 60.0), (search, 90.0), (confirmation, 25.0)):
        study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={"worked": worked}))
    assert seconds_spent([search]) == 90
    assert seconds_spent([search, confirmation]) == 115
    now = time.monotonic()
    assert Clock([search], now - 10)() >= 100
    assert 35 <= Clock([search, confirmation], now - 10)() < 90
