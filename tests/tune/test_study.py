"""The study: what runs next, what is recorded, and what survives a death at any byte."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path
from typing import Any

import optuna
import pytest
from fakes import PLAIN, a_report, asked, drive, finished, in_memory, opened, score, small_space
from optuna.storages.journal import JournalStorage
from optuna.trial import TrialState

from lstmcls.cli import BadInput
from tune.samplers import make_sampler
from tune.space import Objective, SearchSpace
from tune.study import (
    SEARCH,
    ask,
    best_report,
    end_waiting,
    enqueue,
    finish,
    frozen_trial,
    open_study,
    ranked,
    record_report,
    reports_of,
    requeue,
    requeue_unfinished,
)

POINT = {"optimizer": "sgd", "lr": 0.1, "momentum": 0.5, "hidden_size": 16}
OTHER = {"optimizer": "adam", "lr": 0.01, "hidden_size": 32}


folder = pytest.fixture(in_memory)


@pytest.fixture
def journal(folder: Path) -> Path:
    return folder / "study.journal"


# What runs next.


def test_points_are_enqueued_once_however_often_a_search_is_resumed(journal: Path) -> None:
    space = small_space(enqueue=[POINT, OTHER, POINT])
    for _ in range(3):
        study = opened(journal, space)
        enqueue(study, [OTHER])
        fixed = [trial.system_attrs["fixed_params"] for trial in study.get_trials()]
        assert fixed == [POINT, OTHER]  # and equal ones once


def test_many_points_are_enqueued_under_one_sync_without_a_list_of_all_for_each(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = open_study(journal, SEARCH, small_space().objective)
    sync, synced = os.fsync, []
    listed, lists = JournalStorage.get_all_trials, []
    monkeypatch.setattr(os, "fsync", lambda file: (sync(file), synced.append(file)))
    monkeypatch.setattr(
        JournalStorage,
        "get_all_trials",
        lambda *given, **named: (lists.append(given), listed(*given, **named))[1],
    )
    enqueue(study, [{"hidden_size": size} for size in range(300)])
    assert len(synced) == 1
    assert len(lists) <= 1
    monkeypatch.undo()
    assert len(study.get_trials()) == 300


def test_points_that_were_enqueued_before_their_driver_died_are_not_again(journal: Path) -> None:
    points = [{"hidden_size": 8 * size, "lr": 1 / size} for size in range(1, 6)]
    study = open_study(journal, SEARCH, small_space().objective)
    for point in points[:3]:
        study.enqueue_trial(point)
    enqueue(open_study(journal, SEARCH, small_space().objective), points)
    study = open_study(journal, SEARCH, small_space().objective)
    assert [t.system_attrs["fixed_params"] for t in study.get_trials()] == points


def test_points_that_ran_are_not_enqueued_again(journal: Path) -> None:
    space = small_space(enqueue=[POINT])
    assert drive(journal, space, 2)[0] == POINT
    assert len(drive(journal, space, 2)) == 2


def test_unfinished_first_then_enqueued_then_new(journal: Path) -> None:
    space = small_space(enqueue=[POINT, OTHER])
    study = opened(journal, space)
    first, _ = asked(study, space, 4)
    record_report(study, first, a_report(1, 0.5))
    del study, first  # the driver dies

    study = opened(journal, space)
    numbers, params = [], []
    while (found := asked(study, space, 4)) is not None:
        trial, config = found
        assert config == space.config(trial.params)
        numbers.append(trial.number)
        params.append(trial.params)
    assert numbers == [0, 1, 2, 3]
    assert params[:2] == [POINT, OTHER]
    assert list(study.get_trials()[0].intermediate_values) == [1]


def test_an_unfinished_trial_comes_before_older_points(journal: Path) -> None:
    space = small_space(enqueue=[POINT, OTHER])
    study = opened(journal, space)
    for _ in range(4):
        asked(study, space, None)
    before = [trial.params for trial in study.get_trials()]
    finish(study, 1, TrialState.COMPLETE, "trained to the end", 0.5)
    study = opened(journal, space)
    assert requeue_unfinished(study) == [0, 2, 3]
    assert [asked(study, space, 4)[0].number for _ in range(3)] == [0, 2, 3]
    assert asked(study, space, 4) is None
    assert [trial.params for trial in study.get_trials()] == before


def test_a_smaller_budget_than_there_are_points(journal: Path) -> None:
    space = small_space(enqueue=[POINT, OTHER])
    assert [params for params in drive(journal, space, 1) if params] == [POINT]
    assert drive(journal, space, 2) == [POINT, OTHER]


def test_no_budget_means_no_end(journal: Path) -> None:
    space = small_space()
    study = opened(journal, space)
    assert [asked(study, space, None)[0].number for _ in range(5)] == list(range(5))


def test_requeue_keeps_number_parameters_and_reports(journal: Path) -> None:
    space = small_space()
    study = opened(journal, space)
    trial, config = asked(study, space, 1)
    record_report(study, trial, a_report(1, 0.5))
    requeue(study, 0)
    assert frozen_trial(study, 0).state == TrialState.WAITING
    again, same = asked(study, space, 1)
    assert (again.number, again.params, same) == (0, trial.params, config)
    assert record_report(study, again, a_report(1, 0.5)) is False
    assert record_report(study, again, a_report(2, 0.75)) is True


def test_a_suggestion_that_is_no_configuration_fails_and_the_next_is_asked(journal: Path) -> None:
    space = small_space()
    study = opened(journal, space)

    def suggest(trial: optuna.Trial) -> Any:
        if trial.number < 2:
            raise BadInput("nesterov: needs momentum")
        return space.suggest(trial)

    found = ask(study, suggest, lambda number: make_sampler(space, number), 3)
    assert found is not None
    assert found[0].number == 2
    assert ask(study, suggest, lambda number: make_sampler(space, number), 3) is None
    for trial in study.get_trials()[:2]:
        assert trial.state == TrialState.FAIL
        assert trial.user_attrs["stopped"] == (
            "not a valid configuration: nesterov: needs momentum"
        )


# What is recorded.


def test_a_report_is_recorded_once_and_whole(journal: Path) -> None:
    space = small_space()
    study = opened(journal, space)
    trial, _ = asked(study, space, None)
    assert record_report(study, trial, a_report(1, 0.5))
    assert record_report(study, trial, a_report(2, math.nan))
    assert not record_report(study, trial, a_report(1, 0.9))
    study = open_study(journal, SEARCH, space.objective)
    found = reports_of(frozen_trial(study, 0))
    assert [report["step"] for report in found] == [1, 2]
    assert found[0]["objective"] == 0.5
    assert math.isnan(found[1]["objective"])
    assert set(found[0]) == {*a_report(1, 0.5), "time", "order"}
    assert a_report(1, 0.5).items() <= found[0].items()
    assert found[0]["order"] < found[1]["order"]
    assert math.isnan(frozen_trial(study, 0).intermediate_values[2])


@pytest.mark.parametrize(
    ("state", "value"),
    [(TrialState.COMPLETE, 0.5), (TrialState.PRUNED, 0.25), (TrialState.FAIL, None)],
)
def test_the_end_of_a_trial(journal: Path, state: TrialState, value: float | None) -> None:
    space = small_space()
    study = opened(journal, space)
    trial, _ = asked(study, space, None)
    record_report(study, trial, a_report(1, 0.25))
    finish(study, 0, state, "so it was", 0.5 if state == TrialState.COMPLETE else None)
    found = frozen_trial(open_study(journal, SEARCH, space.objective), 0)
    assert (found.state, found.value, found.user_attrs["stopped"]) == (state, value, "so it was")
    assert requeue_unfinished(study) == []
    assert frozen_trial(study, 0).state == state


@pytest.mark.parametrize("reports", [[], [math.nan], [0.5, math.nan]])
@pytest.mark.parametrize("state", [TrialState.PRUNED, TrialState.FAIL])
def test_a_trial_of_nan_does_not_stay_running(
    journal: Path, reports: list[float], state: TrialState
) -> None:
    space = small_space()
    study = opened(journal, space)
    finished(study, space.suggest, reports, state)
    assert frozen_trial(study, 0).state == state


def test_a_queued_trial_ends(journal: Path) -> None:
    space = small_space(enqueue=[POINT])
    study = opened(journal, space)
    end_waiting(study, 0, TrialState.FAIL, "overtaken")
    assert frozen_trial(study, 0).state == TrialState.FAIL
    assert asked(study, space, 1) is None


# The best.


@pytest.mark.parametrize(
    ("mode", "objectives", "step"),
    [
        ("max", [0.5, 0.75, 0.75, 0.25], 2),
        ("min", [0.5, 0.25, 0.25, 0.75], 2),
        ("max", [math.nan, 0.5, math.nan], 2),
        ("min", [math.nan, math.nan, 0.5], 3),
        ("max", [math.nan], None),
        ("min", [], None),
    ],
)
def test_best_report(journal: Path, mode: str, objectives: list[float], step: int | None) -> None:
    space = small_space(objective={"metric": "val_loss", "mode": mode})
    trial = finished(opened(journal, space), space.suggest, objectives, TrialState.PRUNED)
    best = best_report(trial, space.objective)
    assert (best and best["step"]) == step


@pytest.mark.parametrize("mode", ["max", "min"])
def test_ranked(journal: Path, mode: str) -> None:
    space = small_space(objective={"metric": "val_loss", "mode": mode})
    study = opened(journal, space)
    assert ranked(study, space.objective) == []
    sign = 1 if mode == "max" else -1
    finished(study, space.suggest, [sign * 0.5, sign * 0.25])
    finished(study, space.suggest, [sign * 0.9], TrialState.FAIL)
    finished(study, space.suggest, [math.nan], TrialState.PRUNED)
    finished(study, space.suggest, [sign * 0.25, sign * 0.75], TrialState.PRUNED)
    finished(study, space.suggest, [sign * 0.5])
    running, _ = asked(study, space, None)
    record_report(study, running, a_report(1, sign * 0.6))
    found = [
        (trial.number, report["objective"]) for trial, report in ranked(study, space.objective)
    ]
    assert found == [(3, sign * 0.75), (5, sign * 0.6), (0, sign * 0.5), (4, sign * 0.5)]


# The samplers.


def sampler_space(name: str, parameters: dict[str, Any] = PLAIN, **sections: Any) -> SearchSpace:
    sampler = {"name": name, **({"startup_trials": 2} if name in ("tpe", "gp", "cmaes") else {})}
    return small_space(space=parameters, sampler=sampler, **sections)


@pytest.mark.parametrize(
    ("name", "trials"), [("tpe", 9), ("random", 6), ("gp", 4), ("qmc", 7), ("grid", 5)]
)
def test_a_search_that_died_anywhere_goes_on_with_the_same_parameters(
    folder: Path, name: str, trials: int
) -> None:
    if name == "grid":
        space = sampler_space(name, {"hidden_size": {"int": [8, 40], "step": 8}})
    else:
        space = sampler_space(name, seed=3, enqueue=[{"hidden_size": 8}])
    wanted = drive(folder / "whole", space, trials)
    assert len({str(params) for params in wanted}) == trials
    base = folder / "base"
    for k in range(1 if name != "gp" else trials - 2, trials):
        drive(base, space, k)  # so far
        for die_in in (-1, k):
            journal = folder / f"{k}-{die_in}"
            shutil.copy(base, journal)
            if die_in >= 0:
                drive(journal, space, trials, die_in=k)
            assert drive(journal, space, trials) == wanted, (k, die_in)


@pytest.mark.parametrize("name", ["tpe", "random", "qmc"])
def test_so_does_one_with_conditions(folder: Path, name: str) -> None:
    space = sampler_space(name, small_space().to_dict()["space"])
    wanted = drive(folder / "whole", space, 10)
    drive(folder / "parts", space, 10, die_in=4)
    drive(folder / "parts", space, 10, die_in=7)
    assert drive(folder / "parts", space, 10) == wanted


@pytest.mark.parametrize("name", ["tpe", "random", "gp", "cmaes", "qmc"])
def test_the_seed_decides(folder: Path, name: str) -> None:
    first, second = (
        drive(folder / str(seed), sampler_space(name, seed=seed), 3) for seed in (0, 1)
    )
    assert first != second


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("tpe", optuna.samplers.TPESampler),
        ("random", optuna.samplers.RandomSampler),
        ("gp", optuna.samplers.GPSampler),
        ("cmaes", optuna.samplers.CmaEsSampler),
        ("qmc", optuna.samplers.QMCSampler),
        ("grid", optuna.samplers.RandomSampler),
    ],
)
def test_every_name_has_its_sampler(name: str, kind: type) -> None:
    space = sampler_space(name, {"hidden_size": {"int": [8, 64], "step": 8}})
    assert isinstance(make_sampler(space, 0), kind)


def test_a_model_beats_chance(folder: Path) -> None:
    """The sampler sees the values: later suggestions are better than the random start."""
    space = sampler_space("tpe")
    scores = [score(space.config(params)) for params in drive(folder / "x", space, 24)]
    assert sum(scores[-5:]) / 5 > 1.2 * sum(scores[:5]) / 5


def test_qmc_spreads_its_points(folder: Path) -> None:
    space = sampler_space("qmc", {"dropout": {"float": [0, 0.8]}})
    points = [params["dropout"] for params in drive(folder / "x", space, 8)]
    assert sorted(int(p / 0.1) for p in points) == list(range(8))  # one in every eighth


def test_the_grid_is_asked_for_point_by_point(folder: Path) -> None:
    space = sampler_space("grid", {
        "optimizer": {"categorical": ["adam", "sgd"]},
        "momentum": {"categorical": [0.0, 0.9], "when": {"optimizer": "sgd"}},
    })  # fmt: skip
    assert space.budget.trials is not None
    assert drive(folder / "x", space, space.budget.trials) == space.grid()
    assert len(space.grid()) == 3


def test_the_direction_is_the_objectives(journal: Path) -> None:
    objective = Objective("val_loss", "min")
    assert open_study(journal, SEARCH, objective).direction.name == "MINIMIZE"
    assert open_study(journal, "other", Objective()).direction.name == "MAXIMIZE"
