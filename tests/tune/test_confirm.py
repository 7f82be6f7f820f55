"""The confirmation: who is in it, in which order it runs, and how it is ranked."""

from __future__ import annotations

import functools
import math
import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest
from fakes import a_report, asked, finished, in_memory, opened, small_space
from optuna.trial import TrialState

from tune.confirm import (
    Candidate,
    announcement,
    any_of_the_search,
    choose_candidates,
    confirmation_points,
    drop_outdated,
    enqueue_points,
    former_winner,
    outdated,
    rank_candidates,
    suggest_run,
)
from tune.run_folder import RunFolder
from tune.space import SearchSpace
from tune.study import (
    CONFIRMATION,
    ask,
    cut,
    finish,
    open_study,
    record_report,
    requeue_unfinished,
)
from tune.winner import of_candidate

folder = pytest.fixture(in_memory)
SGD = {"optimizer": "sgd", "lr": 0.1, "momentum": 0.5, "hidden_size": 16}
ADAM = {"optimizer": "adam", "lr": 0.01, "hidden_size": 32}
LARGE = {"optimizer": "adam", "lr": 0.01, "hidden_size": 64}


def space(top: int = 3, seeds: int = 2, **sections: Any) -> SearchSpace:
    return small_space(confirm={"top": top, "seeds": seeds}, **sections)


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
        (2, 240, "confirmation of the top 2 on 2 fresh seeds, about 4 min kept back"),
        (1, 12, "confirmation of the best trial on 2 fresh seeds, about 12 s kept back"),
        (3, None, "confirmation of the top 3 on 2 fresh seeds"),
        (0, 0, "the best trial is written, without a confirmation"),
    ],
)
def test_what_is_announced(top: int, kept: float | None, says: str) -> None:
    assert announcement(space(top), kept) == says


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
        Candidate(5, the_space.config(ADAM), baseline=False),
        Candidate(0, the_space.config(SGD), baseline=True),
    ]


def test_every_candidate_on_the_first_seed_then_on_the_second() -> None:
    the_space = space(seeds=2, seed=3)
    points = confirmation_points(the_space, candidates(the_space))
    assert points == [
        {"candidate": 5, "seed": 4000},
        {"candidate": 0, "seed": 4000},
        {"candidate": 5, "seed": 4001},
        {"candidate": 0, "seed": 4001},
    ]


def test_fresh_seeds_are_none_of_the_search() -> None:
    fixed = {"epochs": 3, "seed": 1001}
    points = confirmation_points(space(seeds=2, fixed=fixed), candidates(space())[:1])
    assert [point["seed"] for point in points] == [1000, 1002]
    grid = {"seed": {"categorical": [1000, 1001]}, "hidden_size": {"int": [8, 16], "step": 8}}
    searched = small_space(space=grid, sampler="grid", confirm={"top": 1, "seeds": 2})
    points = confirmation_points(searched, candidates(space())[:1])
    assert [point["seed"] for point in points] == [1002, 1003]


def test_the_former_winner_is_judged_beside_what_is_new(folder: Path) -> None:
    the_space = space(top=1)
    study = search(folder, the_space, 0.5, 0.6, 0.9)
    assert outline(choose_candidates(the_space, study)) == [(2, False)]
    assert outline(choose_candidates(the_space, study, former=1)) == [(2, False), (1, False)]
    assert outline(choose_candidates(the_space, study, former=2)) == [(2, False)]
    confirmation = open_study(folder / "j", CONFIRMATION, the_space.objective)
    assert former_winner(confirmation) is None
    confirmation.set_user_attr("looked_at_test", [[4, 1000], [1, 1002]])
    assert former_winner(confirmation) == 1


def test_a_bettered_baseline_alone_confirms_nothing() -> None:
    config = space().config(LARGE)
    found, baseline = Candidate(3, config, baseline=False), Candidate(0, config, baseline=True)
    assert not any_of_the_search([found, baseline], [baseline])
    assert not any_of_the_search([found, baseline], [])
    assert any_of_the_search([found, baseline], [baseline, found])
    assert any_of_the_search([baseline, found], [baseline])  # the search's best is the baseline


@pytest.mark.parametrize("seed", [0, 1, 10**6, 2**32 - 1])
def test_runs_are_their_candidates_under_fresh_seeds(folder: Path, seed: int) -> None:
    the_space = space(seeds=3, seed=seed)
    chosen = candidates(the_space)
    points = confirmation_points(the_space, chosen)
    study = open_study(folder / "j", CONFIRMATION, the_space.objective)
    enqueue_points(study, points)
    enqueue_points(study, points)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a value outside its distribution
        for point in points:
            trial = study.ask()
            config = suggest_run(chosen, trial)
            assert trial.params == point
            assert config.seed == point["seed"]
            wanted = next(c.config for c in chosen if c.trial == point["candidate"])
            assert config.to_dict() == {**wanted.to_dict(), "seed": point["seed"]}
            again = optuna.trial.FixedTrial(trial.params)
            assert suggest_run(chosen, again) == config
    assert len(study.get_trials()) == len(points)
    assert len({point["seed"] for point in points}) == 3
    assert seed not in {point["seed"] for point in points}


def test_queued_runs_of_overtaken_candidates_fail_and_may_come_back(folder: Path) -> None:
    the_space = space(seeds=1)
    study = open_study(folder / "j", CONFIRMATION, the_space.objective)
    first, second = candidates(the_space)
    other = Candidate(9, the_space.config(LARGE), baseline=False)
    enqueue_points(study, confirmation_points(the_space, [first, second]))
    drop_outdated(study, [first, other])
    enqueue_points(study, confirmation_points(the_space, [other, first]))
    states = ["FAIL", "FAIL", "WAITING", "WAITING"]
    assert [trial.state.name for trial in study.get_trials()] == states
    assert study.get_trials()[1].user_attrs["stopped"] == "overtaken by a longer search"
    waiting = study.get_trials(states=(TrialState.WAITING,))  # the new favourite comes first
    assert [t.system_attrs["fixed_params"]["candidate"] for t in waiting] == [9, 5]
    # An even longer search: the second is back among the best.
    drop_outdated(study, [first, second])
    enqueue_points(study, confirmation_points(the_space, [first, second]))
    waiting = study.get_trials(states=(TrialState.WAITING,))
    assert [t.system_attrs["fixed_params"]["candidate"] for t in waiting] == [5, 0]


def test_what_an_earlier_sitting_ran_and_no_longer_counts(folder: Path) -> None:
    the_space = space(seeds=1)
    study = open_study(folder / "j", CONFIRMATION, the_space.objective)
    first, second = candidates(the_space)
    points = confirmation_points(the_space, [first, second])
    enqueue_points(study, points)
    assert outdated(study, points) == set()
    for state in (TrialState.COMPLETE, TrialState.PRUNED):
        trial = study.ask()
        suggest_run([first, second], trial)
        finish(study, trial.number, state, "", 0.5 if state == TrialState.COMPLETE else None)
    assert outdated(study, points) == {1}  # cut short by the time: it runs again
    assert outdated(study, points[1:]) == {0, 1}  # the first is overtaken


def test_an_interrupted_run_of_an_overtaken_candidate_is_dropped_too(folder: Path) -> None:
    the_space = space(seeds=1)
    study = open_study(folder / "j", CONFIRMATION, the_space.objective)
    first, second = candidates(the_space)
    enqueue_points(study, confirmation_points(the_space, [first, second]))
    for _ in range(2):
        suggest_run([first, second], study.ask())
    assert requeue_unfinished(study) == [0, 1]
    drop_outdated(study, [second])
    assert [trial.state.name for trial in study.get_trials()] == ["FAIL", "WAITING"]


def test_a_run_that_time_cut_short_comes_back_when_there_is_more(folder: Path) -> None:
    the_space = space(seeds=1)
    study = open_study(folder / "j", CONFIRMATION, the_space.objective)
    chosen = candidates(the_space)
    points = confirmation_points(the_space, chosen)
    enqueue_points(study, points)
    for state, value in ((TrialState.COMPLETE, 0.5), (TrialState.PRUNED, None)):
        trial = study.ask()
        suggest_run(chosen, trial)
        finish(study, trial.number, state, "time is up", value)
    for _ in range(2):
        enqueue_points(study, points)
        assert [t.state.name for t in study.get_trials()] == ["COMPLETE", "PRUNED", "WAITING"]
    assert study.get_trials()[2].system_attrs["fixed_params"] == points[1]


def test_a_run_that_time_cut_short_goes_on_from_where_it_was(folder: Path) -> None:
    the_space = space(seeds=1)
    study = open_study(folder / "j", CONFIRMATION, the_space.objective)
    chosen = candidates(the_space)
    points = confirmation_points(the_space, chosen)
    enqueue_points(study, points)
    suggest = functools.partial(suggest_run, chosen)
    trial, _ = asked_run(study, suggest)
    record_report(study, trial, a_report(1, 0.5))
    assert cut(study, "time is up") == [0]
    enqueue_points(study, points)
    drop_outdated(study, chosen)
    assert len(study.get_trials()) == len(points)
    assert outdated(study, points) == set()  # it counts, for it will end
    assert rank_candidates(chosen, study, the_space.objective) == []
    again, config = asked_run(study, suggest)
    assert again.number == 0
    assert config == suggest(optuna.trial.FixedTrial(points[0]))
    assert list(study.get_trials()[0].intermediate_values) == [1]
    assert asked_run(study, suggest)[0].number == 1


def asked_run(study: optuna.Study, suggest: Any) -> Any:
    return ask(study, suggest, optuna.samplers.RandomSampler, len(study.get_trials()))


# The ranking.


def confirmation(folder: Path, *runs: tuple[int, float, TrialState]) -> optuna.Study:
    study = open_study(folder / "confirmation", CONFIRMATION, space().objective)
    for seed, (number, value, state) in enumerate(runs):
        study.enqueue_trial({"candidate": number, "seed": seed})
        trial = study.ask()
        trial.suggest_int("candidate", 0, 100)
        trial.suggest_int("seed", 0, 100)
        record_report(study, trial, a_report(1, value - 0.125))
        record_report(study, trial, a_report(2, value))
        finish(study, trial.number, state, "x", value if state == TrialState.COMPLETE else None)
    return study


DONE, CUT = TrialState.COMPLETE, TrialState.PRUNED


def test_the_best_mean_wins_and_not_the_best_run(folder: Path) -> None:
    the_space = space()
    study = confirmation(
        folder, (5, 0.9, DONE), (0, 0.75, DONE), (5, 0.25, DONE), (0, 0.8125, DONE), (5, 1, CUT)
    )
    ranked = rank_candidates(candidates(the_space), study, the_space.objective)
    assert [c.trial for c in ranked] == [0, 5]
    assert ranked[0].values == [0.75, 0.8125]
    assert ranked[1].values == [0.9, 0.25]  # an unfinished run does not count
    figures = ranked[0].summary()
    assert figures["mean"] == 0.78125
    assert figures["runs"] == 2
    assert figures["baseline"] is True
    assert figures["half_width"] == pytest.approx(12.7062 * 0.0441942 / 2**0.5, rel=1e-4)
    run = RunFolder(folder)
    first = next(of_candidate(run, the_space, ranked[0], study))
    assert first.folder == run.checkpoints / "confirmation-00003"
    assert first.report["step"] == 2


def test_the_lowest_mean_wins_where_less_is_better(folder: Path) -> None:
    the_space = space(objective="val_loss")
    study = open_study(folder / "c", CONFIRMATION, the_space.objective)
    for number, value in ((5, 0.5), (0, 0.25), (5, 0.125), (0, 0.25)):
        study.enqueue_trial({"candidate": number, "seed": 1})
        trial = study.ask()
        trial.suggest_int("candidate", 0, 9)
        trial.suggest_int("seed", 0, 9)
        record_report(study, trial, a_report(1, value))
        finish(study, trial.number, DONE, "x", value)
    ranked = rank_candidates(candidates(the_space), study, the_space.objective)
    assert [c.trial for c in ranked] == [0, 5]
    run = RunFolder(folder)
    first = next(of_candidate(run, the_space, ranked[1], study))
    assert first.folder == run.checkpoints / "confirmation-00002"


def test_candidates_without_a_run_are_left_out(folder: Path) -> None:
    the_space = space()
    study = confirmation(folder, (0, 0.5, DONE), (7, 0.75, DONE))
    ranked = rank_candidates(candidates(the_space), study, the_space.objective)
    assert [c.trial for c in ranked] == [0]
    assert math.isnan(ranked[0].summary()["deviation"])


def test_equal_means_go_to_the_lower_number(folder: Path) -> None:
    the_space = space()
    study = confirmation(folder, (5, 0.5, DONE), (0, 0.5, DONE))
    ranked = rank_candidates(candidates(the_space), study, the_space.objective)
    assert [c.trial for c in ranked] == [0, 5]


def test_asked_names_no_search(folder: Path) -> None:
    """The confirmation is a study of its own in the same journal."""
    the_space = space(enqueue=[SGD])
    study = opened(folder / "j", the_space)
    other = open_study(folder / "j", CONFIRMATION, the_space.objective)
    enqueue_points(other, [{"candidate": 0, "seed": 1}])
    trial, _ = asked(study, the_space, 1)
    assert trial.params == SGD
    assert len(study.get_trials()) == len(other.get_trials()) == 1
