"""Suggestions: of every parameter, no configuration twice, in a thread where they take long."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import HANG
from fakes import PLAIN, Driver, a_report, asked, drive, in_memory, opened, score, small_space
from optuna.samplers import GPSampler
from optuna.trial import TrialState
from ray.tune.search import Searcher

from tune.samplers import Samplers, drawn_at_random, make_sampler
from tune.space import SearchSpace, load_space
from tune.study import ask, finish, record_report

folder = pytest.fixture(in_memory)
MODELS = ["tpe", "random", "gp", "cmaes", "qmc"]
CONDITIONAL: dict[str, Any] = {
    "optimizer": {"categorical": ["sgd", "adam"]},
    "lr_sgd": {"float": [0.01, 1], "log": True, "field": "lr", "when": {"optimizer": "sgd"}},
    "lr_adam": {"float": [1e-3, 0.02], "log": True, "field": "lr", "when": {"optimizer": "adam"}},
    "hidden_size": {"int": [8, 64], "step": 8},
}
# 2 * 4 + 2 * 4 * 2 = 24 configurations.
DISCRETE: dict[str, Any] = {
    "hidden_size": {"int": [8, 32], "step": 8},
    "layers": {"int": [1, 2], "log": True},
    "optimizer": {"categorical": ["sgd", "adam"]},
    "momentum": {"float": [0.0, 0.5], "step": 0.5, "when": {"optimizer": "sgd"}},
}


def the_space(name: str, parameters: dict[str, Any], **sections: Any) -> SearchSpace:
    startup = {"startup_trials": 2} if name in ("tpe", "gp", "cmaes") else {}
    return small_space(space=parameters, sampler={"name": name, **startup}, **sections)


# Conditions.


def test_qmc_searches_conditional_parameters_too(folder: Path) -> None:
    trials = drive(folder / "j", the_space("qmc", CONDITIONAL), 24)
    for name in ("lr_sgd", "lr_adam"):
        values = [params[name] for params in trials if name in params]
        assert len(values) > 5
        assert len(set(values)) == len(values), name


def test_qmc_is_one_sequence_from_the_first_trial_to_the_last(folder: Path) -> None:
    """Sobol: of 16 points, one in every sixteenth; with four trials at once as well."""
    space = the_space("qmc", {**CONDITIONAL, "dropout": {"float": [0, 0.8]}})
    study = opened(folder / "j", space)
    for _ in range(4):
        running = [asked(study, space, None)[0] for _ in range(4)]
        for trial in reversed(running):  # the first ended last
            finish(study, trial.number, TrialState.COMPLETE, "trained to the end", 0.5)
    points = [trial.params["dropout"] for trial in study.get_trials()]
    assert sorted(int(p / 0.05) for p in points) == list(range(16))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "gp",
            "gp does not model lr_sgd, lr_adam: they are drawn at random; tpe models all",
        ),
        (
            "cmaes",
            "cmaes does not model optimizer, lr_sgd, lr_adam: they are drawn at random; "
            "tpe models all",
        ),
        (
            "qmc",
            "qmc does not spread its points over lr_sgd, lr_adam: they are drawn at random; "
            "tpe models all",
        ),
        ("tpe", None),
        ("random", None),
    ],
)
def test_what_a_sampler_cannot_model_is_said(name: str, says: str | None) -> None:
    assert drawn_at_random(the_space(name, CONDITIONAL)) == says
    numbers = {"hidden_size": {"int": [8, 64], "step": 8}, "lr": {"float": [1e-3, 1]}}
    assert drawn_at_random(the_space(name, numbers)) is None


@pytest.mark.parametrize("name", ["gp", "cmaes"])
def test_what_is_said_is_what_optuna_leaves_out(folder: Path, name: str) -> None:
    """Its samplers model the numbers, gp the categories too, that every trial has."""
    space = the_space(name, {**CONDITIONAL, "dropout": {"float": [0, 0.8]}})
    drive(folder / "j", space, 4)
    study = opened(folder / "j", space)
    trial = study.ask()
    modelled = make_sampler(space, 4).infer_relative_search_space(study, study.get_trials()[4])
    assert trial.number == 4
    said = drawn_at_random(space)
    assert said is not None
    names = said.split(" model ")[1].split(":")[0].split(", ")
    assert {p.name for p in space.parameters} == {*modelled, *names}


def test_the_default_space_says_what_gp_leaves_to_chance() -> None:
    space = load_space("full")
    gp = small_space(**{**space.to_dict(), "sampler": "gp"})
    assert "lr_adam" in str(drawn_at_random(gp))


# In a thread.


class Slow:
    """GPSampler's model, which waits until it may go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()
        original = GPSampler.sample_relative

        def slow(sampler: GPSampler, *args: Any) -> Any:
            self.begun.set()
            assert self.may_end.wait(HANG)
            return original(sampler, *args)

        monkeypatch.setattr(GPSampler, "sample_relative", slow)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    found = Slow(monkeypatch)
    yield found
    found.may_end.set()


def test_while_gp_works_reports_are_recorded_and_the_search_may_end(
    folder: Path, slow: Slow
) -> None:
    driver = Driver(folder, the_space("gp", PLAIN), trials=4)
    slow.may_end.set()
    trial = driver.start()
    slow.may_end.clear()
    lines = driver.study.get_trials()
    assert driver.searcher.suggest("x") is None
    assert slow.begun.wait(HANG)
    driver.report(trial, 0.5)
    assert driver.frozen(0).intermediate_values == {1: 0.5}
    assert driver.searcher.suggest("x") is None
    assert len(driver.study.get_trials()) == len(lines)  # nothing of it is in the study yet
    driver.stop.interrupt()
    assert driver.searcher.suggest("x") == Searcher.FINISHED


def test_with_nothing_running_the_clock_is_still_looked_at(folder: Path, slow: Slow) -> None:
    driver = Driver(folder, the_space("gp", PLAIN), trials=4)
    driver.stop.deadline = 0.0  # on the monotonic clock
    assert driver.searcher.suggest("x") == Searcher.FINISHED
    assert driver.stop.reason == "time is up"
    assert driver.study.get_trials() == []


def test_a_trial_that_comes_back_does_not_wait_for_gp(folder: Path, slow: Slow) -> None:
    driver = Driver(folder, the_space("gp", PLAIN), trials=4)
    slow.may_end.set()
    trial = driver.start()
    slow.may_end.clear()
    assert driver.searcher.suggest("x") is None
    driver.die(trial)
    assert driver.start().config["number"] == 0
    slow.may_end.set()
    assert driver.start().config["number"] == 1


def test_what_fails_in_the_thread_fails_the_search(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any) -> Any:
        raise RuntimeError("the model")

    monkeypatch.setattr(GPSampler, "sample_relative", failing)
    with pytest.raises(RuntimeError, match="the model"):
        Driver(folder, the_space("gp", PLAIN), trials=4).start()


def test_the_thread_suggests_what_gp_itself_would(folder: Path) -> None:
    """One at a time, what is suggested depends on the study and the seed alone."""
    space = the_space("gp", PLAIN, seed=5)
    here, there = opened(folder / "here", space), opened(folder / "there", space)
    for number in range(5):
        found, _ = asked(here, space, None)
        plain = ask(there, space.suggest, lambda n: make_sampler(space, n), None)
        assert plain is not None
        assert plain[0].params == found.params
        for study in (here, there):
            value = score(space.config(found.params))
            finish(study, number, TrialState.COMPLETE, "trained to the end", value)


# No configuration twice.


def configurations(space: SearchSpace, trials: list[dict]) -> Counter[Any]:
    return Counter(space.config(params) for params in trials)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("seed", [0, 1])
def test_no_configuration_is_trained_twice(folder: Path, name: str, seed: int) -> None:
    space, count = the_space(name, DISCRETE, seed=seed), 8 if name == "gp" else 20
    trials = drive(folder / "j", space, count)
    assert len(trials) == count
    assert max(configurations(space, trials).values()) == 1


@pytest.mark.parametrize("name", ["tpe", "random", "qmc", "cmaes"])
def test_the_search_ends_where_all_have_been_tried(folder: Path, name: str) -> None:
    driver = Driver(folder, the_space(name, DISCRETE), trials=40)
    first, second = driver.start(), driver.start()
    driver.report(first, 0.25)
    for _ in range(22):
        driver.train(driver.start(), 0.5, 0.5, 0.5)
    assert driver.searcher.suggest("x") is None  # a running one may come back
    driver.die(second)
    driver.train(driver.start(), 0.5, 0.5, 0.5)
    driver.train(first, 0.5, 0.5)
    assert driver.searcher.suggest("x") == Searcher.FINISHED
    over = ("note", "every configuration of the space has been tried: no more trials")
    assert driver.heard.events.count(over) == 1
    assert len(configurations(driver.space, [t.params for t in driver.study.get_trials()])) == 24
    assert Driver(folder, driver.space, trials=40).searcher.suggest("x") == Searcher.FINISHED


def test_points_that_are_enqueued_run_and_are_not_drawn_again(folder: Path) -> None:
    point = {"hidden_size": 8, "layers": 1, "optimizer": "adam"}
    space = the_space("random", DISCRETE, enqueue=[point, {"hidden_size": 16}, {"layers": 2}])
    trials = drive(folder / "j", space, 24)
    assert trials[0] == point
    assert (trials[1]["hidden_size"], trials[2]["layers"]) == (16, 2)
    assert configurations(space, trials)[space.config(point)] == 1
    assert max(configurations(space, trials[3:]).values()) == 1


def test_a_diverged_configuration_is_not_drawn_again(folder: Path) -> None:
    space = the_space("random", {"hidden_size": {"int": [8, 32], "step": 8}})
    study = opened(folder / "j", space)
    for number in range(4):
        trial, _ = asked(study, space, None)
        record_report(study, trial, a_report(1, 0.5))
        finish(study, number, TrialState.FAIL, "diverged: the loss is nan")
    assert asked(study, space, None) is None
    assert len({trial.params["hidden_size"] for trial in study.get_trials()}) == 4


@pytest.mark.parametrize("name", MODELS)
def test_a_discrete_search_that_died_anywhere_goes_on_with_the_same(
    folder: Path, name: str
) -> None:
    space = the_space(name, DISCRETE, seed=3, enqueue=[{"hidden_size": 8}])
    deaths = {"gp": (5,), "cmaes": ()}.get(name, (3, 9, 11))  # cmaes begins anew after a resume
    count = 6 if name == "gp" else 12
    wanted = drive(folder / "whole", space, count)
    for die_in in deaths:
        drive(folder / "base", space, die_in)
        shutil.copy(folder / "base", folder / "parts")
        drive(folder / "parts", space, count, die_in=die_in)
        assert drive(folder / "parts", space, count) == wanted, die_in
    assert drive(folder / "again", space, count) == wanted


def test_where_there_is_no_end_of_values_nothing_is_drawn_anew(folder: Path) -> None:
    """The suggestions are Optuna's own, to the bit: older searches go on as they began."""
    space = small_space(sampler={"name": "tpe", "startup_trials": 2}, seed=2)
    study = opened(folder / "j", space)
    samplers = Samplers(space, study, print)
    for number in range(4):
        asked(study, space, None)
        assert isinstance(samplers(number + 1), optuna.samplers.TPESampler)


def test_a_space_of_very_many_points_draws_anew_too(folder: Path) -> None:
    """Too many to list, and a model that has come down on one of them."""

    class Stubborn(optuna.samplers.RandomSampler):
        def sample_independent(self, study: Any, trial: Any, name: str, distribution: Any) -> Any:
            return distribution.low

    sizes = {name: {"int": [1, 8000]} for name in ("hidden_size", "embedding_dim")}
    space = the_space("random", sizes)
    assert space.points() is None
    study = opened(folder / "j", space)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tune.samplers.make_sampler", lambda space, number: Stubborn())
        points = [asked(study, space, None)[0].params for _ in range(4)]
    assert points[0] == {"hidden_size": 1, "embedding_dim": 1}
    assert max(configurations(space, points).values()) == 1
