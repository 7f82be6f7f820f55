"""The best of another run, where this space can express it."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest
from fakes import a_report, asked, finished, in_memory, opened, small_space
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState
from test_space import random_params, spaces

from lstmcls.config import TrainConfig
from tune.run_folder import RunFolder
from tune.space import SearchSpace, parse_space
from tune.study import record_report
from tune.warm_start import TAKEN, point_of, warm_start_points

folder = pytest.fixture(in_memory)
SGD = {"optimizer": "sgd", "lr": 0.1, "momentum": 0.5, "hidden_size": 16}
ADAM = {"optimizer": "adam", "lr": 0.01, "hidden_size": 32}


def run_of(folder: Path, space: SearchSpace) -> tuple[RunFolder, optuna.Study]:
    run = RunFolder(folder)
    run.space.write_text(space.to_yaml(), encoding="utf-8")
    return run, opened(run.journal, space)


def suggested(space: SearchSpace, point: dict[str, Any]) -> TrainConfig:
    """What a search makes of an enqueued point; a value that Optuna would bend is a fault."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(point)
    trial = study.ask()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config = space.suggest(trial)
    assert set(trial.params) == set(point)
    return config


@settings(max_examples=60, deadline=None)
@given(raw=spaces())
def test_every_suggestion_of_a_random_space_is_found_again(raw: dict[str, Any]) -> None:
    space = parse_space(raw, "x")
    for config, _ in random_params(space, 6):
        point, misfits = point_of(space, config)
        assert misfits == []
        assert space.config(point) == config
        assert suggested(space, point) == config


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(raw=spaces(), other=spaces(), data=st.data())
def test_what_fits_another_random_space_is_suggested_exactly(
    raw: dict[str, Any], other: dict[str, Any], data: st.DataObject
) -> None:
    other["space"] = {**raw["space"], **(other["space"] if data.draw(st.booleans()) else {})}
    try:
        here, there = parse_space(other, "x"), parse_space(raw, "x")
    except ValueError:
        return
    for config, _ in random_params(there, 4):
        point, misfits = point_of(here, config)
        if not misfits:
            found = suggested(here, point).to_dict()
            assert {**found, "seed": config.seed} == config.to_dict()


@pytest.mark.parametrize("option", [{}, {"log": True}, {"step": 2}])
def test_a_fraction_does_not_fit_whole_numbers(option: dict[str, Any]) -> None:
    space = parse_space({"space": {"epochs": {"int": [1, 9], **option}}}, "x")
    assert point_of(space, TrainConfig(epochs=2.5))[1] == ["epochs 2.5 is outside the space"]
    point, misfits = point_of(space, TrainConfig(epochs=3))
    assert misfits == []
    assert suggested(space, point).epochs == 3


def test_what_is_outside_or_fixed_otherwise_is_told() -> None:
    space = small_space()
    config = space.config(ADAM)
    changed = space.config({**ADAM, "hidden_size": 24}).to_dict() | {"batch_size": 7}
    assert point_of(space, TrainConfig(**changed))[1] == ["batch_size is 64 here, 7 there"]
    far = TrainConfig(**(config.to_dict() | {"hidden_size": 100, "lr": 5.0}))
    assert point_of(space, far)[1] == [
        "lr 5.0 is outside the space", "hidden_size 100 is outside the space",
    ]  # fmt: skip
    seeded = TrainConfig(**(config.to_dict() | {"seed": 77}))
    assert point_of(space, seeded) == (ADAM, [])


def test_the_best_come_first_each_once(folder: Path) -> None:
    space = small_space()
    run, study = run_of(folder, space)
    for params, value in ((ADAM, 0.5), (SGD, 0.75), (ADAM, 0.25)):
        finished(study, space.suggest, [value], **params)
    finished(study, space.suggest, [0.9], TrialState.FAIL)
    assert warm_start_points(space, run) == ([SGD, ADAM], [])


def test_a_few_are_taken_and_the_rest_is_told(folder: Path) -> None:
    space = small_space()
    run, study = run_of(folder, space)
    for k in range(TAKEN + 2):
        finished(study, space.suggest, [0.1 * k], **{**ADAM, "lr": 0.01 + 0.1 * k})
    assert len(warm_start_points(space, run)[0]) == TAKEN
    other = small_space(space={"lr": {"float": [0.001, 1]}}, fixed={"optimizer": "adam"})
    points, left_out = warm_start_points(other, run)
    assert points == []
    assert left_out == [
        f"trial {number} does not fit: hidden_size is 128 here, 32 there; "
        "first_report is 0.25 here, 1.0 there"
        for number in range(TAKEN + 1, 1, -1)
    ]


def test_the_other_run_is_read_only(folder: Path) -> None:
    """Its driver may be at work: a half-written last line is no fault, and nothing is written."""
    space = small_space()
    run, study = run_of(folder, space)
    finished(study, space.suggest, [0.5], **ADAM)
    trial, _ = asked(study, space, None)
    record_report(study, trial, a_report(1, 0.25))
    for tail in (b"", b'{"op_code":6,"wor'):
        content = run.journal.read_bytes() + tail
        run.journal.write_bytes(content)
        points, left_out = warm_start_points(space, run)
        assert points[0] == ADAM
        assert left_out == []
        assert run.journal.read_bytes() == content


def test_a_run_that_has_not_begun(folder: Path) -> None:
    space = small_space()
    run = RunFolder(folder)
    run.space.write_text(space.to_yaml(), encoding="utf-8")
    run.journal.touch()
    assert warm_start_points(space, run) == ([], [])
    assert os.path.getsize(run.journal) == 0
