"""The confirmation: who is in it, for how long each trains, and which runs count."""

from __future__ import annotations

import functools
import math
import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest
from fakes import a_report, asked, finished, in_memory, opened, small_space
from fold_runs import ran
from optuna.trial import TrialState

from tune.confirmation.candidates import (
    BEHIND,
    OVERTAKEN,
    UNSTABLE,
    Candidate,
    announcement,
    choose_candidates,
    confirmation_points,
    drop,
    drop_outdated,
    enqueue_points,
    folds_of,
    former_winner,
    outdated,
    point,
    suggest_run,
    with_runs,
)
from tune.confirmation.plan import Plan
from tune.space import SearchSpace
from tune.study import (
    CONFIRMATION,
    ask,
    best_report,
    cut,
    frozen_trial,
    is_fold_run,
    open_study,
    record_report,
    requeue_unfinished,
)

folder = pytest.fixture(in_memory)
SGD = {"optimizer": "sgd", "lr": 0.1, "momentum": 0.5, "hidden_size": 16}
ADAM = {"optimizer": "adam", "lr": 0.01, "hidden_size": 32}
LARGE = {"optimizer": "adam", "lr": 0.01, "hidden_size": 64}
FOLDS = "by cross-validation, up to 5 folds"


def space(top: int = 3, folds: int = 2, **sections: Any) -> SearchSpace:
    return small_space(confirm={"top": top, "folds": folds}, **sections)


def search(folder: Path, the_space: SearchSpace, *values: float) -> optuna.Study:
    """A search whose trials had these values; the enqueued ones come first."""
    study = opened(folder / "search", the_space)
    for value in values:
        state = TrialState.FAIL if math.isnan(value) else TrialState.COMPLETE
        finished(study, the_space.suggest, [value], state)
    return study


def outline(candidates: list[Candidate]) -> list[tuple[int, bool]]:
    return [(candidate.trial, candidate.baseline) for candidate in candidates]


@pytest.mark.parametrize(
    ("top", "kept", "says"),
    [
        (
            2,
            240,
            "confirmation of the top 2 by cross-validation, up to 5 folds, about 4 min kept back",
        ),
        (
            1,
            12,
            "confirmation of the best trial by cross-validation, up to 5 folds, about 12 s "
            "kept back",
        ),
        (3, None, "confirmation of the top 3 by cross-validation, up to 5 folds"),
        (0, 0, "the best trial is written, without a confirmation"),
    ],
)
def test_what_is_announced(top: int, kept: float | None, says: str) -> None:
    assert announcement(space(top, folds=5), kept) == says


# Who.


def test_the_best_first_and_no_more_than_asked_for(folder: Path) -> None:
    the_space = space(top=2)
    study = search(folder, the_space, 0.5, 0.75, 0.25, 0.9)
    chosen = choose_candidates(the_space, study)
    assert outline(chosen) == [(3, False), (1, False)]
    assert chosen[0].config == the_space.config(study.get_trials()[3].params)


def test_the_lowest_first_where_less_is_better(folder: Path) -> None:
    the_space = space(top=2, objective="val_loss")
    study = search(folder, the_space, 0.5, 0.75, 0.25)
    assert outline(choose_candidates(the_space, study)) == [(2, False), (0, False)]


def test_equal_configurations_are_one_candidate(folder: Path) -> None:
    the_space = space(top=3)
    study = opened(folder / "search", the_space)
    for params, value in ((ADAM, 0.5), (SGD, 0.25), (ADAM, 0.75)):
        finished(study, the_space.suggest, [value], **params)
    assert outline(choose_candidates(the_space, study)) == [(2, False), (1, False)]


def test_a_configuration_on_several_seeds_is_one_candidate(folder: Path) -> None:
    grid = space(top=2, sampler="grid", space={"layers": {"int": [1, 2]}, "seed": {"int": [0, 2]}})
    study = search(folder, grid, 0.5, 0.75, 0.25, 0.625, 0.5, 0.5)  # three seeds of each
    assert outline(choose_candidates(grid, study)) == [(1, False), (3, False)]


def test_the_first_enqueued_point_is_the_baseline(folder: Path) -> None:
    the_space = space(top=1, enqueue=[SGD, ADAM])
    study = search(folder, the_space, 0.25, 0.75, 0.5)
    assert outline(choose_candidates(the_space, study)) == [(1, False), (0, True)]


def test_a_baseline_that_is_among_the_best_is_marked_there(folder: Path) -> None:
    the_space = space(top=2, enqueue=[SGD, ADAM])
    study = search(folder, the_space, 0.5, 0.75, 0.25)
    assert outline(choose_candidates(the_space, study)) == [(1, False), (0, True)]
    assert len(choose_candidates(space(top=2), study)) == 2


def test_no_baseline_where_it_failed_or_the_points_are_a_grid(folder: Path) -> None:
    failed = space(top=1, enqueue=[SGD])
    study = search(folder, failed, math.nan, 0.5)
    assert outline(choose_candidates(failed, study)) == [(1, False)]
    grid = space(top=1, sampler="grid", enqueue=[{"layers": 1}], space={"layers": {"int": [1, 2]}})
    study = opened(folder / "grid", grid)
    for value in (0.25, 0.5):
        finished(study, grid.suggest, [value])
    assert outline(choose_candidates(grid, study)) == [(1, False)]


def test_a_baseline_that_never_began_is_none(folder: Path) -> None:
    the_space = space(enqueue=[SGD])
    assert choose_candidates(the_space, opened(folder / "search", the_space)) == []


def test_a_search_without_a_result_has_no_candidates(folder: Path) -> None:
    the_space = space()
    assert choose_candidates(the_space, search(folder, the_space, math.nan)) == []


# What runs.


def candidates(the_space: SearchSpace) -> list[Candidate]:
    return [
        Candidate(5, the_space.config(ADAM), baseline=False, epochs=2.0),
        Candidate(0, the_space.config(SGD), baseline=True, epochs=3.0),
    ]


def confirmation(folder: Path, the_space: SearchSpace) -> optuna.Study:
    return open_study(folder / "j", CONFIRMATION, the_space.objective)


def test_every_candidate_on_the_first_fold_then_on_the_second() -> None:
    the_space = space(seed=3)
    points = confirmation_points(the_space, candidates(the_space), 2)
    assert points == [
        {"candidate": 5, "epochs": 2.0, "fold": 0, "seed": 4000},
        {"candidate": 0, "epochs": 3.0, "fold": 0, "seed": 4000},
        {"candidate": 5, "epochs": 2.0, "fold": 1, "seed": 4001},
        {"candidate": 0, "epochs": 3.0, "fold": 1, "seed": 4001},
    ]


def test_fresh_seeds_are_none_of_the_search() -> None:
    fixed = {"epochs": 3, "seed": 1001}
    points = confirmation_points(space(fixed=fixed), candidates(space())[:1], 2)
    assert [each["seed"] for each in points] == [1000, 1002]
    grid = {"seed": {"categorical": [1000, 1001]}, "hidden_size": {"int": [8, 16], "step": 8}}
    searched = small_space(space=grid, sampler="grid")
    points = confirmation_points(searched, candidates(space())[:1], 2)
    assert [each["seed"] for each in points] == [1002, 1003]


@pytest.mark.parametrize(
    ("values", "state", "schedule", "epochs"),
    [
        ([0.5, 0.75, 0.625], TrialState.COMPLETE, "constant", 2),  # until it was best
        ([0.5, 0.75, 0.875], TrialState.COMPLETE, "constant", 3),
        ([0.75, 0.625], TrialState.PRUNED, "constant", 1),
        ([0.5, 0.75], TrialState.PRUNED, "constant", 3),  # stopped while it became better
        ([0.75, 0.625], TrialState.PRUNED, "cosine", 3),  # a schedule ends with the training
    ],
)
def test_for_how_long_a_candidate_trains(
    folder: Path, values: list[float], state: TrialState, schedule: str, epochs: float
) -> None:
    fixed = {"epochs": 3, "report_every": 1, "first_report": 1, "schedule": schedule}
    the_space = space(fixed=fixed)
    study = opened(folder / "search", the_space)
    finished(study, the_space.suggest, values, state)
    (chosen,) = choose_candidates(the_space, study)
    assert chosen.epochs == epochs
    assert chosen.final.epochs == epochs
    assert chosen.config.epochs == 3


def test_the_former_winner_is_judged_beside_what_is_new(folder: Path) -> None:
    the_space = space(top=1)
    study = search(folder, the_space, 0.5, 0.6, 0.9)
    assert outline(choose_candidates(the_space, study)) == [(2, False)]
    assert outline(choose_candidates(the_space, study, former=1)) == [(2, False), (1, False)]
    assert outline(choose_candidates(the_space, study, former=2)) == [(2, False)]
    runs = confirmation(folder, the_space)
    assert former_winner(runs) is None
    runs.set_user_attr("looked_at_test", [[4, 1000], [1, 1002]])  # of an earlier version
    assert former_winner(runs) == 1
    runs.set_user_attr("last_winner", [4, 3])
    assert former_winner(runs) == 4


@pytest.mark.parametrize("seed", [0, 1, 10**6, 2**32 - 1])
def test_runs_are_their_candidates_under_fresh_seeds(folder: Path, seed: int) -> None:
    the_space = space(seed=seed)
    chosen = candidates(the_space)
    points = confirmation_points(the_space, chosen, 3)
    study = confirmation(folder, the_space)
    enqueue_points(study, points)
    enqueue_points(study, points)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a value outside its distribution
        for wanted in points:
            trial = study.ask()
            config = suggest_run(chosen, trial)
            assert trial.params == wanted
            assert is_fold_run(frozen_trial(study, trial.number))
            candidate = next(c for c in chosen if c.trial == wanted["candidate"])
            ours = {"seed": wanted["seed"], "epochs": candidate.epochs}
            assert config.to_dict() == {**candidate.config.to_dict(), **ours}
            again = optuna.trial.FixedTrial(trial.params)
            assert suggest_run(chosen, again) == config
    assert len(study.get_trials()) == len(points)
    assert len({each["seed"] for each in points}) == 3
    assert seed not in {each["seed"] for each in points}


def test_a_run_on_a_fold_is_judged_by_its_last_report(folder: Path) -> None:
    the_space = space()
    chosen = candidates(the_space)
    points = confirmation_points(the_space, chosen, 1)
    run = ran(confirmation(folder, the_space), chosen, points[0], 0.75, 0.5)
    searched = finished(opened(folder / "s", the_space), the_space.suggest, [0.75, 0.5])
    found = [best_report(trial, the_space.objective) for trial in (run, searched)]
    assert [report and report["step"] for report in found] == [2, 1]
    diverged = ran(confirmation(folder, the_space), chosen, points[1], 0.75, math.nan)
    assert best_report(diverged, the_space.objective) is None


def test_the_folds_are_those_of_the_first_run(folder: Path) -> None:
    """A session without a run, for the minutes were over, decides nothing for the next."""
    the_space = space()
    study = confirmation(folder, the_space)
    chosen = candidates(the_space)
    assert folds_of(study, Plan(folds=3, candidates=2)) == 3
    enqueue_points(study, confirmation_points(the_space, chosen, 3))
    assert folds_of(study, Plan(folds=4, candidates=2)) == 4
    points = confirmation_points(the_space, chosen, 4)
    drop_outdated(study, points)
    enqueue_points(study, points)
    ran(study, chosen)
    assert folds_of(study, Plan(folds=3, candidates=1)) == 4
    assert folds_of(confirmation(folder, the_space), Plan(folds=8, candidates=1)) == 4


# What an earlier session ran.


def test_queued_runs_of_overtaken_candidates_fail_and_may_come_back(folder: Path) -> None:
    the_space = space()
    study = confirmation(folder, the_space)
    first, second = candidates(the_space)
    other = Candidate(9, the_space.config(LARGE), baseline=False, epochs=3.0)
    points = functools.partial(confirmation_points, the_space, folds=1)
    enqueue_points(study, points([first, second]))
    drop_outdated(study, points([first, other]))
    enqueue_points(study, points([other, first]))
    states = ["FAIL", "FAIL", "WAITING", "WAITING"]
    assert [trial.state.name for trial in study.get_trials()] == states
    assert study.get_trials()[1].user_attrs["stopped"] == OVERTAKEN
    waiting = study.get_trials(states=(TrialState.WAITING,))  # the new favourite comes first
    assert [point(trial)["candidate"] for trial in waiting] == [9, 5]
    # An even longer search: the second is back among the best.
    drop_outdated(study, points([first, second]))
    enqueue_points(study, points([first, second]))
    waiting = study.get_trials(states=(TrialState.WAITING,))
    assert [point(trial)["candidate"] for trial in waiting] == [5, 0]


def test_what_an_earlier_session_ran_and_no_longer_counts(folder: Path) -> None:
    the_space = space()
    study = confirmation(folder, the_space)
    chosen = candidates(the_space)
    points = confirmation_points(the_space, chosen, 1)
    enqueue_points(study, points)
    assert outdated(study, points) == set()
    ran(study, chosen)
    ran(study, chosen, state=TrialState.PRUNED, why="time is up")
    assert outdated(study, points) == {1}  # cut short by the time: it runs again
    assert outdated(study, points[1:]) == {0, 1}  # the first is overtaken


def test_an_interrupted_run_of_an_overtaken_candidate_is_dropped_too(folder: Path) -> None:
    the_space = space()
    study = confirmation(folder, the_space)
    chosen = candidates(the_space)
    enqueue_points(study, confirmation_points(the_space, chosen, 1))
    for _ in range(2):
        suggest_run(chosen, study.ask())
    assert requeue_unfinished(study) == [0, 1]
    drop_outdated(study, confirmation_points(the_space, chosen[1:], 1))
    assert [trial.state.name for trial in study.get_trials()] == ["FAIL", "WAITING"]


def test_a_queued_run_of_an_earlier_version_does_not_begin(folder: Path) -> None:
    """It has no fold and no epochs, which would be drawn at random."""
    the_space = space()
    study = confirmation(folder, the_space)
    chosen = candidates(the_space)
    points = confirmation_points(the_space, chosen, 1)
    for seed in (1000, 1001):
        study.enqueue_trial({"candidate": 5, "seed": seed})
    begun = study.ask()
    begun.suggest_int("candidate", 0, 2**53)
    begun.suggest_int("seed", 0, 2**53)
    record_report(study, begun, a_report(1, 0.5))
    requeue_unfinished(study)
    drop_outdated(study, points)
    enqueue_points(study, points)
    waiting = study.get_trials(states=(TrialState.WAITING,))
    assert [point(trial) for trial in waiting] == points
    assert outdated(study, points) == {0, 1}
    assert all(not c.runs and not c.left for c in with_runs(chosen, study, points))


def test_a_run_that_trained_for_another_time_does_not_count(folder: Path) -> None:
    """The search was resumed, and its trial became better later."""
    the_space = space()
    study = confirmation(folder, the_space)
    before, other = candidates(the_space)
    points = confirmation_points(the_space, [before], 2)
    enqueue_points(study, points)
    ran(study, [before])
    after = Candidate(5, before.config, baseline=False, epochs=3.0)
    now = confirmation_points(the_space, [after, other], 2)
    assert outdated(study, now) == {0}
    drop_outdated(study, now)
    enqueue_points(study, now)
    assert [c.runs for c in with_runs([after, other], study, now)] == [{}, {}]
    waiting = study.get_trials(states=(TrialState.WAITING,))
    assert [point(trial) for trial in waiting] == now


def test_a_run_that_time_cut_short_comes_back_when_there_is_more(folder: Path) -> None:
    the_space = space()
    study = confirmation(folder, the_space)
    chosen = candidates(the_space)
    points = confirmation_points(the_space, chosen, 1)
    enqueue_points(study, points)
    ran(study, chosen)
    ran(study, chosen, state=TrialState.PRUNED, why="time is up")
    for _ in range(2):
        enqueue_points(study, points)
        assert [t.state.name for t in study.get_trials()] == ["COMPLETE", "PRUNED", "WAITING"]
    assert study.get_trials()[2].system_attrs["fixed_params"] == points[1]


def test_a_run_that_time_cut_short_goes_on_from_where_it_was(folder: Path) -> None:
    the_space = space()
    study = confirmation(folder, the_space)
    chosen = candidates(the_space)
    points = confirmation_points(the_space, chosen, 1)
    enqueue_points(study, points)
    suggest = functools.partial(suggest_run, chosen)
    trial, _ = asked_run(study, suggest)
    record_report(study, trial, a_report(1, 0.5))
    assert cut(study, "time is up") == [0]
    enqueue_points(study, points)
    drop_outdated(study, points)
    assert len(study.get_trials()) == len(points)
    assert outdated(study, points) == set()  # it counts, for it will end
    assert not any(c.runs for c in with_runs(chosen, study, points))
    again, config = asked_run(study, suggest)
    assert again.number == 0
    assert config == suggest(optuna.trial.FixedTrial(points[0]))
    assert list(study.get_trials()[0].intermediate_values) == [1]
    assert asked_run(study, suggest)[0].number == 1


def asked_run(study: optuna.Study, suggest: Any) -> Any:
    return ask(study, suggest, optuna.samplers.RandomSampler, len(study.get_trials()))


def test_who_left_the_race_stays_out_of_it(folder: Path) -> None:
    """In the next session too: neither what was dropped nor what failed runs again."""
    the_space = space()
    study = confirmation(folder, the_space)
    chosen = [*candidates(the_space), Candidate(9, the_space.config(LARGE), False, 3.0)]
    points = confirmation_points(the_space, chosen, 3)
    enqueue_points(study, points)
    ran(study, chosen, None, 0.5, 0.75)
    ran(study, chosen)
    ran(study, chosen, state=TrialState.FAIL, why="diverged: the loss is nan")
    assert drop(study, 0, TrialState.PRUNED, f"{BEHIND} after 2 folds") == 2
    assert drop(study, 9, TrialState.FAIL, f"{UNSTABLE}: diverged: the loss is nan") == 2
    assert drop(study, 9, TrialState.FAIL, UNSTABLE) == 0
    before = study.get_trials()
    enqueue_points(study, points)
    assert len(study.get_trials()) == len(before) == 9
    assert outdated(study, points) == set()
    left = {c.trial: c.left for c in with_runs(chosen, study, points)}
    assert left == {5: "", 0: f"{BEHIND} after 2 folds", 9: "diverged: the loss is nan"}
    assert [point(t)["fold"] for t in study.get_trials(states=(TrialState.WAITING,))] == [1, 2]


def test_a_candidate_has_its_finished_runs_by_fold(folder: Path) -> None:
    the_space = space()
    study = confirmation(folder, the_space)
    chosen = candidates(the_space)
    points = confirmation_points(the_space, chosen, 2)
    for number in (2, 0, 1):
        ran(study, chosen, points[number], 0.5, 0.25 * number)
    ran(study, chosen, points[3], state=TrialState.PRUNED, why="time is up")
    five, zero = with_runs(chosen, study, points)
    assert [(fold, run.number, run.seed) for fold, run in five.runs.items()] == [
        (0, 1, 1000),
        (1, 0, 1001),
    ]
    assert [run.report["objective"] for run in five.runs.values()] == [0.0, 0.5]
    assert list(zero.runs) == [0]
    assert not five.left
    assert not zero.left


def test_asked_names_no_search(folder: Path) -> None:
    """The confirmation is a study of its own in the same journal."""
    the_space = space(enqueue=[SGD])
    study = opened(folder / "j", the_space)
    other = confirmation(folder, the_space)
    enqueue_points(other, confirmation_points(the_space, candidates(the_space)[:1], 1))
    trial, _ = asked(study, the_space, 1)
    assert trial.params == SGD
    assert len(study.get_trials()) == len(other.get_trials()) == 1
