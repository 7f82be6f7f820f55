"""ASHA over the study: Ray's own decisions, and rungs that are the same after any death."""

from __future__ import annotations

import math
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from fakes import a_report, asked, in_memory, opened, small_space
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from tune.scheduler import StudyASHA, replay
from tune.space import Asha, Objective, SearchSpace
from tune.study import finish, record_report, requeue, requeue_running

folder = pytest.fixture(in_memory)
MAX = 9.0
OBJECTIVES = st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5, math.nan])


def scheduler(mode: str = "max", grace: float = 1.0, factor: float = 3.0) -> StudyASHA:
    return StudyASHA(Asha(grace, factor), Objective("val_loss", mode), MAX)


def stand_in(number: int) -> Any:
    return SimpleNamespace(config={"number": number})


def told(asha: StudyASHA, number: int, epoch: float, objective: float) -> str:
    return asha.on_trial_result(None, stand_in(number), a_report(1, objective, epoch))


def space(mode: str = "max", epochs: float = MAX, every: float = 1.0) -> SearchSpace:
    return small_space(
        fixed={"epochs": epochs, "report_every": every, "first_report": every},
        objective={"metric": "val_loss", "mode": mode},
    )


def test_a_worse_newcomer_is_stopped() -> None:
    asha = scheduler()
    for number in range(3):
        asha.on_trial_add(None, stand_in(number))
    assert told(asha, 0, 1, 0.5) == TrialScheduler.CONTINUE
    assert told(asha, 1, 1, 0.4) == TrialScheduler.STOP
    assert told(asha, 2, 1, 0.6) == TrialScheduler.CONTINUE
    assert asha.rungs() == {9.0: {}, 3.0: {}, 1.0: {0: 0.5, 1: 0.4, 2: 0.6}}


def test_the_rungs_hold_objectives_as_they_are_where_less_is_better() -> None:
    asha = scheduler("min")
    asha.on_trial_add(None, stand_in(7))
    told(asha, 7, 3, 0.25)
    assert asha.rungs()[3.0] == {7: 0.25}


def test_a_nan_stops_nobody_and_is_not_stopped() -> None:
    asha = scheduler()
    for number in range(3):
        asha.on_trial_add(None, stand_in(number))
    assert told(asha, 0, 1, math.nan) == TrialScheduler.CONTINUE
    assert told(asha, 1, 1, 0.1) == TrialScheduler.CONTINUE
    assert told(asha, 2, 1, math.nan) == TrialScheduler.CONTINUE


def test_a_grace_above_the_largest_number_of_epochs_is_that_number() -> None:
    assert list(StudyASHA(Asha(5.0, 3.0), Objective(), 2.0).rungs()) == [2.0]


def test_a_result_that_is_a_failure_fills_no_rung() -> None:
    asha = scheduler()
    asha.on_trial_add(None, stand_in(0))
    failure = {"failure": "diverged", "why": "x", "objective": math.nan, "epoch": 0.0}
    assert asha.on_trial_result(None, stand_in(0), failure) == TrialScheduler.CONTINUE
    asha.on_trial_complete(None, stand_in(0), failure)
    assert asha.rungs() == {9.0: {}, 3.0: {}, 1.0: {}}


def test_the_end_of_a_trial_fills_no_second_rung() -> None:
    asha = scheduler()
    asha.on_trial_add(None, stand_in(0))
    told(asha, 0, 3, 0.5)
    asha.on_trial_complete(None, stand_in(0), a_report(1, 0.5, 3))
    asha.on_trial_remove(None, stand_in(0))
    assert asha.rungs() == {9.0: {}, 3.0: {0: 0.5}, 1.0: {}}


EVENTS = st.lists(st.tuples(st.integers(0, 5), OBJECTIVES), max_size=50)


@settings(max_examples=150, deadline=None)
@given(
    events=EVENTS,
    mode=st.sampled_from(["max", "min"]),
    grace=st.sampled_from([0.25, 0.5, 1, 2]),
    factor=st.sampled_from([1.5, 2, 3, 4]),
    every=st.sampled_from([0.25, 0.5, 1, 1.5]),
)
def test_its_decisions_are_those_of_rays_own_asha(
    events: list[tuple[int, float]], mode: str, grace: float, factor: float, every: float
) -> None:
    mine = StudyASHA(Asha(grace, factor), Objective("val_loss", mode), MAX)
    theirs = ASHAScheduler(
        time_attr="epoch", metric="objective", mode=mode,
        max_t=MAX, grace_period=grace, reduction_factor=factor,
    )  # fmt: skip
    epochs: dict[int, float] = {}
    stopped: set[int] = set()
    for number, objective in events:
        ours, rays = stand_in(number), SimpleNamespace(trial_id=f"trial-{number}")
        if number not in epochs:
            mine.on_trial_add(None, ours)
            theirs.on_trial_add(None, rays)
        if number in stopped:
            continue
        epochs[number] = epochs.get(number, 0.0) + every
        result = a_report(1, objective, epochs[number])
        decision = mine.on_trial_result(None, ours, result)
        assert decision == theirs.on_trial_result(None, rays, result)
        if decision == TrialScheduler.STOP:
            stopped.add(number)
    sign = 1 if mode == "max" else -1
    assert str(mine.rungs()) == str({
        milestone: {int(name.split("-")[1]): sign * value for name, value in recorded.items()}
        for milestone, recorded in theirs._brackets[0]._rungs
    })  # fmt: skip


class Search:
    """A search of made-up objectives, whose driver may die at any event."""

    def __init__(self, journal: Path, space: SearchSpace, asha: Asha) -> None:
        self.journal, self.space, self.asha = journal, space, asha
        self.again: dict[int, int] = {}
        self.begin()

    def begin(self) -> None:
        self.study = opened(self.journal, self.space)
        self.scheduler = StudyASHA(self.asha, self.space.objective, MAX)
        for number, epoch in replay(self.scheduler, self.study, self.space).items():
            self.ask(number)
            finish(self.study, number, TrialState.PRUNED, f"asha at epoch {epoch:g}")
        self.running: dict[int, optuna.Trial] = {}

    def ask(self, number: int) -> optuna.Trial:
        while True:
            trial, _ = asked(self.study, self.space, None)
            self.scheduler.on_trial_add(None, stand_in(trial.number))
            if trial.number == number:
                return trial
            self.running[trial.number] = trial

    def report(self, number: int, objective: float) -> None:
        """The next report of a trial that may have been asked for in an earlier sitting."""
        frozen = self.study.get_trials()
        if number < len(frozen) and frozen[number].state.is_finished():
            return
        trial = self.running.get(number) or self.ask(number)
        self.running[number] = trial
        step = len(self.study.get_trials()[number].intermediate_values) + 1
        # As in a worker that goes on from an older checkpoint: known reports come again.
        for old in range(self.again.pop(number, step) + 1, step):
            value = self.study.get_trials()[number].intermediate_values[old]
            result = a_report(old, value)
            assert self.scheduler.on_trial_result(None, stand_in(number), result) == "CONTINUE"
        result = a_report(step, objective)
        decision = self.scheduler.on_trial_result(None, stand_in(number), result)
        record_report(self.study, trial, result)
        if step >= self.space.max_epochs:
            finish(self.study, number, TrialState.COMPLETE, "trained to the end", 0.5)
        elif decision == TrialScheduler.STOP:
            finish(self.study, number, TrialState.PRUNED, f"asha at epoch {step}")

    def die(self, checkpoints: dict[int, int]) -> None:
        """An end that no trial is suspected of, however often it comes."""
        requeue_running(self.study)
        self.again = {number: checkpoints.get(number, 0) for number in self.running}
        self.begin()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    events=st.lists(
        st.one_of(
            st.tuples(st.integers(0, 3), OBJECTIVES),
            st.dictionaries(st.integers(0, 3), st.integers(0, 3)),  # a death; old checkpoints
        ),
        max_size=40,
    ),
    mode=st.sampled_from(["max", "min"]),
    factor=st.sampled_from([1.5, 2.0, 3.0]),
    grace=st.sampled_from([1.0, 1.7]),
)
def test_deaths_change_neither_a_rung_nor_a_decision(
    events: list[Any], mode: str, factor: float, grace: float
) -> None:
    for folder in in_memory():
        died = Search(folder / "died", space(mode, epochs=4), Asha(grace, factor))
        lived = Search(folder / "lived", space(mode, epochs=4), Asha(grace, factor))
        for event in events:
            if isinstance(event, dict):
                died.die(event)
            else:
                died.report(*event)
                lived.report(*event)
        died.die({})
        assert repr(died.scheduler.rungs()) == repr(lived.scheduler.rungs())
        states = [
            [
                trial.state.name if trial.state.is_finished() else "unfinished"
                for trial in search.study.get_trials()
            ]
            for search in (died, lived)
        ]
        assert states[0] == states[1]


def journal_of(path: Path, space: SearchSpace, *reports: tuple[int, float]) -> optuna.Study:
    """A study of running trials with (number, objective) reports, in this order, one sitting."""
    study = opened(path, space)
    trials: dict[int, optuna.Trial] = {}
    for number, objective in reports:
        while number not in trials:
            trial, _ = asked(study, space, None)
            trials[trial.number] = trial
        step = len(study.get_trials()[number].intermediate_values) + 1
        record_report(study, trials[number], a_report(step, objective))
    return study


def test_a_stop_that_a_death_kept_from_the_study_is_found(folder: Path) -> None:
    the_space = space()
    study = journal_of(folder / "j", the_space, (0, 0.5), (1, 0.4), (2, 0.6))
    assert replay(scheduler(), study, the_space) == {1: 1.0}
    finish(study, 1, TrialState.PRUNED, "asha at epoch 1")
    assert replay(scheduler(), study, the_space) == {}


def test_a_trial_that_trained_to_its_end_was_not_stopped(folder: Path) -> None:
    """Its driver died before it wrote COMPLETE: at its last epoch every trial stops."""
    for epochs, reports in ((1.0, [(0, 0.5), (1, 0.4)]), (MAX, [(0, 0.5)] * int(MAX))):
        the_space = space(epochs=epochs)
        study = journal_of(folder / f"{epochs}", the_space, *reports)
        assert replay(scheduler(), study, the_space) == {}


def test_reports_are_replayed_in_the_order_in_which_they_came(folder: Path) -> None:
    the_space = space()
    study = journal_of(folder / "j", the_space, (1, 0.4), (0, 0.5))  # 1 was first, and passed
    asha = scheduler()
    assert replay(asha, study, the_space) == {}
    assert list(asha.rungs()[1.0]) == [1, 0]


@pytest.mark.parametrize("sittings", [1, 2])
def test_a_clock_that_was_set_back_changes_no_decision(
    folder: Path, monkeypatch: pytest.MonkeyPatch, sittings: int
) -> None:
    """Trial 1 reported before trial 0, and passed; by the clock it was the later one."""
    the_space = space()
    study = opened(folder / "j", the_space)
    trials = [asked(study, the_space, None)[0] for _ in range(2)]
    record_report(study, trials[1], a_report(1, 0.4))
    before = time.time()
    monkeypatch.setattr(time, "time", lambda: before - 30)
    if sittings == 2:
        study = opened(folder / "j", the_space)
        trials = [asked(study, the_space, None)[0] for _ in range(2)]
    record_report(study, trials[0], a_report(1, 0.5))
    asha = scheduler()
    assert replay(asha, opened(folder / "j", the_space), the_space) == {}
    assert list(asha.rungs()[1.0]) == [1, 0]


def test_the_reports_of_an_earlier_version_come_first_in_the_order_of_their_times(
    folder: Path,
) -> None:
    the_space = space()
    study = journal_of(folder / "j", the_space, (1, 0.4), (0, 0.5), (2, 0.3))
    for number in (0, 1):
        old = study.get_trials()[number].user_attrs["report_1"]
        del old["order"]
        trial_id = study.get_trials()[number]._trial_id
        study._storage.set_trial_user_attr(trial_id, "report_1", {**old, "time": number})
    asha = scheduler()
    replay(asha, study, the_space)
    assert list(asha.rungs()[1.0]) == [0, 1, 2]


def test_a_trial_that_goes_on_is_not_in_a_rung_twice(folder: Path) -> None:
    """The same report from an older checkpoint would else fall into the rung below."""
    the_space = space(every=3)
    study = opened(folder / "j", the_space)
    trial, _ = asked(study, the_space, None)
    record_report(study, trial, a_report(1, 0.5, epoch=3))
    requeue(study, 0)
    shutil.copy(folder / "j", folder / "copy")
    asha = scheduler()
    replay(asha, study, the_space)
    asha.on_trial_add(None, stand_in(0))
    assert told(asha, 0, 3, 0.5) == TrialScheduler.CONTINUE
    assert asha.rungs() == {9.0: {}, 3.0: {0: 0.5}, 1.0: {}}
    # The report after it does what it would have done.
    told(asha, 0, 6, 0.7)
    assert asha.rungs() == {9.0: {}, 3.0: {0: 0.5}, 1.0: {0: 0.7}}


def test_failed_trials_count_in_the_rungs_too(folder: Path) -> None:
    the_space = space()
    study = journal_of(folder / "j", the_space, (0, 0.5))
    finish(study, 0, TrialState.FAIL, "diverged: x")
    asha = scheduler()
    replay(asha, study, the_space)
    assert asha.rungs()[1.0] == {0: 0.5}
