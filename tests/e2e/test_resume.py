"""Killed at any moment, resumed each time: nothing is lost, nothing runs twice."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from conftest import HANG
from driving import (
    Driver,
    check_interrupted,
    facts,
    reports,
    search,
    trials,
    unfinished,
    write_space,
)
from optuna.trial import TrialState

from lstmcls.artifact import Artifact, load_artifact
from lstmcls.dataset import load_prepared
from lstmcls.ensemble import Ensemble, log_probabilities
from lstmcls.folds import Folds
from lstmcls.linear import LinearModel
from lstmcls.metrics import METRICS, classification_metrics
from tune.checkpoints import load_held_out, trial_folder
from tune.data import confirmation_folds, search_folds
from tune.run_folder import RunFolder
from tune.scheduler import StudyASHA, replay
from tune.space import SearchSpace, load_space
from tune.study import CONFIRMATION, SEARCH, open_study, read_study

KILLS = 10


def _kill(driver: Driver, whom: str) -> None:
    """SIGKILL to the driver, a worker, the raylet, or all at once."""
    if whom == "all":
        os.killpg(driver.process.pid, signal.SIGKILL)
        for process in driver.family():
            process.kill()
    elif whom == "driver":
        driver.process.kill()
    else:
        victims = driver.workers() if whom == "worker" else driver.named("raylet/raylet")
        for victim in victims[:1]:
            victim.kill()


def _check_history(before: list[optuna.trial.FrozenTrial], run: Path) -> None:
    """What was finished stays as it was; what was not keeps its number, parameters, reports."""
    after = trials(run)
    assert len(after) >= len(before)
    for old, new in zip(before, after, strict=False):
        if old.state.is_finished():
            assert facts(old) == facts(new)
        assert old.number == new.number
        assert old.params.items() <= new.params.items()
        assert facts(old)["reports"].items() <= facts(new)["reports"].items()


@pytest.mark.slow
def test_killed_ten_times_in_one_search(prepared_folder: Path, tmp_path: Path) -> None:
    draw = random.Random(7)
    space = write_space(
        tmp_path / "s.yaml",
        prepared_folder,
        fixed={"epochs": 12, "batch_size": 16},
        budget={"trials": 12},
    )
    run = tmp_path / "run"
    before: list[optuna.trial.FrozenTrial] = []
    first: tuple[Any, ...] = ("--space", space, "--out", run)
    resumable = False
    for kill in range(KILLS):
        # A little longer every time, so that there is always something left to kill.
        more = ("--trials", 12 + 2 * kill)
        driver = Driver(tmp_path, *(("--resume", run) if resumable else first), *more)
        whom = ["driver", "worker", "all", "raylet"][kill % 4]
        if kill % 5 == 4:  # before anything has run
            time.sleep(draw.uniform(1, 4))
        else:
            recorded = reports(run)
            driver.until(lambda r=recorded: reports(run) > r, "a report")  # type: ignore[misc]
            time.sleep(draw.uniform(0, 1.5))
        _kill(driver, whom)
        if whom == "worker":
            time.sleep(draw.uniform(0, 2))
            _kill(driver, "driver")
        driver.process.wait(HANG)
        driver.assert_gone()
        if (run / "study.journal").exists():
            _check_history(before, run)
            before = trials(run)
            resumable = True
    last = search(tmp_path, "--resume", run, *more)
    assert last.process.returncode == 0, last.err
    _check_history(before, run)
    found = trials(run)
    assert len(found) == 12 + 2 * (KILLS - 1)
    assert {t.state for t in found} <= {TrialState.COMPLETE, TrialState.PRUNED}
    for trial in found:
        steps = sorted(trial.intermediate_values)
        assert steps == list(range(1, len(steps) + 1))
        assert trial.state == TrialState.PRUNED or steps[-1] == 12
    _check_rungs(run)


def _check_rungs(run: Path) -> None:
    """Every rung holds the first report at or past it, of every trial that came so far."""
    space = load_space(str(run / "space.yaml"))
    assert space.asha is not None
    study = open_study(run / "study.journal", SEARCH, space.objective)
    scheduler = StudyASHA(space.asha, space.objective, space.max_epochs)
    replay(scheduler, study, space)
    for milestone, recorded in scheduler.rungs().items():
        expected = {
            trial.number: trial.intermediate_values[int(milestone)]
            for trial in study.get_trials()
            if int(milestone) in trial.intermediate_values
        }
        assert recorded == expected


def test_one_at_a_time_goes_on_as_if_never_interrupted(
    prepared_folder: Path, tmp_path: Path
) -> None:
    """Killed among the trials, and again among the runs on folds."""
    space = write_space(
        tmp_path / "s.yaml",
        prepared_folder,
        resources={"concurrency": 1},
        fixed={"epochs": 6, "variant": "plain", "padding": "counted"},
        budget={"trials": 4},
        confirm={"top": 1, "folds": 3},
    )
    whole = search(tmp_path, "--space", space, "--out", "whole", "--quiet")
    assert whole.process.returncode == 0, whole.err
    assert whole.err == ""
    run = tmp_path / "cut"
    driver = Driver(tmp_path, "--space", space, "--out", run)
    driver.until(lambda: reports(run) > 8, "the eighth report")
    _kill(driver, "all")
    driver.process.wait(HANG)
    with open(run / "study.journal", "ab") as journal:  # and its last line cut short
        journal.write(b'{"op_code":5,"worker_id":"x","trial_id"')
    resumed = Driver(tmp_path, "--resume", run)
    resumed.until_said("confirmation begins")
    resumed.until(lambda: any(t.intermediate_values for t in trials(run, CONFIRMATION)), "a report")
    _kill(resumed, "all")
    resumed.process.wait(HANG)
    assert "was dropped" in resumed.err
    assert unfinished(run, CONFIRMATION)
    last = search(tmp_path, "--resume", run)
    assert last.process.returncode == 0, last.err
    for study, count in ((SEARCH, 4), (CONFIRMATION, 3)):
        found, wanted = (trials(folder, study) for folder in (run, tmp_path / "whole"))
        assert [facts(t) for t in found] == [facts(t) for t in wanted]
        assert len(found) == count
    tables = [pd.read_parquet(folder / "trials.parquet") for folder in (run, tmp_path / "whole")]
    when = ["seconds", "started", "ended"]
    pd.testing.assert_frame_equal(*(table.drop(columns=when) for table in tables))
    exported = [_check_winner(folder, prepared_folder) for folder in (run, tmp_path / "whole")]
    assert exported[0] == exported[1]


def _check_winner(run: Path, data: Path) -> dict[str, Any]:
    """A winner that draws random states says the same once more; all of it but its times."""
    winner = load_artifact(run / "best")
    assert not winner.config.zero_state
    prepared, seed = load_prepared(data, ("train", "val", "test")), _space(run).seed
    rows = search_folds(prepared, seed)
    if "test" not in winner.metrics:
        recorded, judged = winner.metrics["val"], rows.held_out(0)
        again = classification_metrics(winner.row_probabilities(judged), judged.labels)
        assert again == {name: recorded[name] for name in METRICS}
        return winner.metrics
    assert isinstance(winner.model, Ensemble)
    count = study_of(run, CONFIRMATION).user_attrs["folds"]
    pool = rows.rows.between(0, rows.size)
    folds = confirmation_folds(pool, prepared, prepared.splits["test"], count, seed)
    _check_folds(run, winner, folds)
    winner.metrics["test"].pop("texts_per_second")
    return winner.metrics


def _check_folds(run: Path, winner: Artifact, folds: Folds) -> None:
    """The exported networks say of their folds' rows what their workers wrote down."""
    assert isinstance(winner.model, Ensemble)
    checkpoints = RunFolder(run).checkpoints
    mine = {
        (trial.params["seed"], trial.params["candidate"]): trial
        for trial in trials(run, CONFIRMATION)
        if trial.state == TrialState.COMPLETE
    }
    seen = 0
    for member, network in winner.model.pairs:
        trial = mine.get((member.config and member.config.seed, winner.metrics["trial"]))
        if member.config is None or trial is None or isinstance(network, LinearModel):
            continue
        place, fold = trial_folder(checkpoints, CONFIRMATION, trial.number), trial.params["fold"]
        for rows, said in zip(
            (folds.held_out(fold), folds.test(fold)), load_held_out(place), strict=True
        ):
            again = log_probabilities(network, rows, winner.max_length)
            np.testing.assert_allclose(again, said, atol=1e-5)
        seen += 1
    assert seen >= 2


def study_of(run: Path, name: str) -> optuna.Study:
    study = read_study(run / "study.journal", name)
    assert study is not None
    return study


def _space(run: Path) -> SearchSpace:
    return load_space(str(run / "space.yaml"))


def _states(run: Path, study: str) -> set[TrialState]:
    return {trial.state for trial in trials(run, study)}


def test_extend_warm_start_and_what_a_resume_refuses(prepared_folder: Path, tmp_path: Path) -> None:
    space = write_space(
        tmp_path / "s.yaml",
        prepared_folder,
        fixed={"variant": "plain"},
        budget={"trials": 2},
        confirm={"top": 1, "folds": 3},
    )
    run = tmp_path / "run"
    driver = Driver(tmp_path, "--space", space, "--out", run)
    driver.until_said("search begins")
    driver.process.send_signal(signal.SIGSTOP)  # so that it does not end before the other looks
    second = search(tmp_path, "--resume", run)
    driver.process.send_signal(signal.SIGCONT)
    assert second.process.returncode == 2
    assert "another search is writing here" in second.err
    driver.until_said("confirmation begins")
    driver.until(lambda: _states(run, CONFIRMATION) & {TrialState.RUNNING}, "a run on a fold")
    driver.signal(signal.SIGTERM)
    assert driver.wait() == 130, driver.err
    check_interrupted(driver, run)
    assert TrialState.WAITING in _states(run, CONFIRMATION)
    assert TrialState.RUNNING not in _states(run, CONFIRMATION)
    finished = [facts(t) for t in trials(run)]
    longer = search(tmp_path, "--resume", run, "--trials", 4)
    assert longer.process.returncode == 0, longer.err
    assert [facts(t) for t in trials(run)][:2] == finished
    assert len(trials(run)) == 4
    assert not unfinished(run)
    assert "out of fold, accuracy of single networks" in longer.out
    less = search(tmp_path, "--resume", run, "--trials", 3)
    assert less.process.returncode == 2
    assert "--trials 3: counts all trials of the run, and 4 have begun" in less.err
    again = search(tmp_path, "--resume", run, "--tensorboard")
    assert again.process.returncode == 0
    assert "search: all of its 4 trials have run; a larger --trials goes on with it" in again.err
    drawn = {path.parent.name for path in run.glob("tensorboard/*/events.*")}
    assert "search-0003" in drawn
    assert any(name.startswith("confirmation-") for name in drawn)  # the tracker knows both studies
    narrow = write_space(
        tmp_path / "narrow.yaml",
        prepared_folder,
        space={"hidden_size": {"int": [4, 4], "step": 4}},
        fixed={"variant": "plain"},
        budget={"trials": 4},
    )
    warm = search(tmp_path, "--space", narrow, "--out", "warm", "--warm-start", run)
    assert warm.process.returncode == 0, warm.err
    best = max(t.value for t in trials(run) if t.value is not None)
    fits = [t for t in trials(run) if t.params["hidden_size"] == 4]
    tried = f"{len(fits)} configurations of {run} are tried first"
    assert (tried if fits else f"no configuration of {run} fits this space") in warm.err
    assert warm.err.count("does not fit") == 4 - len(fits)
    assert {t.params["lr"] for t in fits} <= {t.params["lr"] for t in trials(tmp_path / "warm")}
    assert best > 0
    _check_winner(tmp_path / "warm", prepared_folder)
    confirmed = (run / "best" / "metrics.json").read_text(encoding="utf-8")
    cut = Driver(tmp_path, "--resume", run, "--trials", 50)
    cut.until_said("trial 4 epoch")
    cut.signal(signal.SIGINT)
    assert cut.wait() == 130, cut.err
    assert "best/ keeps the winner that was confirmed before" in cut.err
    assert (run / "best" / "metrics.json").read_text(encoding="utf-8") == confirmed
