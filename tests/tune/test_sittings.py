"""What counts as time at work, and what was typed at each sitting."""

from __future__ import annotations

import time
from pathlib import Path

import optuna
import pytest
from fakes import finished, in_memory, small_space

from tune.sittings import (
    START,
    begin_sitting,
    commands,
    seconds_spent,
    starts,
    work_clock,
)
from tune.study import CONFIRMATION, SEARCH, open_study

folder = pytest.fixture(in_memory)


def a_search(folder: Path, *began: float) -> optuna.Study:
    study = open_study(folder / "study.journal", SEARCH, small_space().objective)
    for number, start in enumerate(began):
        study.set_user_attr(f"{START}{number}", start)
    return study


def test_sittings_are_kept_in_their_order(folder: Path) -> None:
    study = a_search(folder)
    typed = [f"--trials {n}" for n in range(12)]  # more than one digit
    for command in typed:
        begin_sitting(study, command)
    assert commands(study) == typed
    assert len(starts(study)) == 12
    assert starts(study) == sorted(starts(study))


def test_time_at_work_leaves_out_the_time_between_sittings(folder: Path) -> None:
    worked = work_clock(a_search(folder, 100, 1000), [110, 160, 1005, 1030])
    assert [worked(t) for t in (100, 110, 160, 1000, 1005, 1030)] == [0, 10, 60, 60, 65, 90]


def test_a_journal_that_knows_no_sittings(folder: Path) -> None:
    assert work_clock(a_search(folder), [50, 70])(70) == 20
    assert seconds_spent([a_search(folder)]) == 0


def test_what_both_studies_wrote_is_time_at_work(folder: Path) -> None:
    space, now = small_space(), time.time()
    study = a_search(folder, now - 1000, now - 10)
    confirmation = open_study(folder / "study.journal", CONFIRMATION, space.objective)
    finished(study, space.suggest, [0.5])
    last = finished(confirmation, space.suggest, [0.5]).datetime_complete
    assert last is not None  # the first sitting wrote nothing, so it counts nothing
    spent = last.timestamp() - (now - 10)
    assert seconds_spent([study, confirmation]) == pytest.approx(spent, abs=1e-3)
    assert seconds_spent([study]) <= spent
