"""Workers that die, hang or run out of memory during a search, each made for real."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import pytest
from conftest import ENVIRONMENT
from driving import (
    Driver,
    trials,
    write_space,
)
from optuna.trial import TrialState

from tune.checkpoints import trial_folder
from tune.study import SEARCH

LONG = {"epochs": 400, "batch_size": 8, "report_every": 1, "first_report": 1}
ALONE = {"concurrency": 1}  # where one worker shows it: each takes seconds to start


def test_a_dead_worker_is_replaced_and_its_trial_goes_on(
    prepared_folder: Path, tmp_path: Path
) -> None:
    space = write_space(
        tmp_path / "s.yaml",
        prepared_folder,
        fixed=LONG,
        budget={"trials": 1},
        resources=ALONE,
    )
    driver = Driver(tmp_path, "--space", space, "--out", "run")
    for attempt in range(1, 4):  # once more than a trial is tried again
        known = driver.err.count(" epoch ")
        driver.until(lambda k=known: driver.err.count(" epoch ") > k + 2, "reports")  # type: ignore[misc]
        driver.workers()[0].kill()
        driver.until(lambda a=attempt: driver.err.count("worker died") >= a, "the death")  # type: ignore[misc]
    assert driver.wait() == 1
    (trial,) = trials(tmp_path / "run")
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs["attempts"] == 3
    assert "worker died" in trial.user_attrs["stopped"]
    steps = sorted(trial.intermediate_values)
    assert steps == list(range(1, len(steps) + 1))  # it went on, and no report came twice
    assert len(steps) >= 9


def test_divergence_memory_and_errors_fail_their_trials_alone(
    prepared_folder: Path, tmp_path: Path
) -> None:
    space = write_space(
        tmp_path / "s.yaml",
        prepared_folder,
        space={
            "lr": {"categorical": [0.01, 0.02, 1000]},
            "hidden_size": {"categorical": [8, 8192]},
        },
        fixed={"optimizer": "sgd", "clip_norm": 0, "weight_decay": 10, "layers": 4, "epochs": 3},
        enqueue=[
            {"lr": 1000, "hidden_size": 8},
            {"lr": 0.01, "hidden_size": 8192},
            {"lr": 0.01, "hidden_size": 8},
            {"lr": 0.02, "hidden_size": 8},
        ],
        budget={"trials": 4},
        asha=False,
    )
    # Set on this process while it starts the search: the limit is inherited, and given back.
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (3 * 2**30, hard))
    try:
        driver = Driver(tmp_path, "--space", space, "--out", "run")
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    run = tmp_path / "run"
    driver.until_said("search begins")
    (run / "checkpoints").mkdir(exist_ok=True)
    trial_folder(run / "checkpoints", SEARCH, 3).touch()  # a file where its folder should be
    assert driver.wait() == 0, driver.err
    diverged, huge, good, hindered = trials(run)
    assert diverged.state == TrialState.FAIL
    assert diverged.user_attrs["stopped"].startswith("diverged: ")
    assert huge.state == TrialState.FAIL
    assert huge.user_attrs["stopped"].startswith("out of memory: ")
    assert huge.user_attrs["share"] == 2
    assert huge.user_attrs["attempts"] == 2
    assert good.state == TrialState.COMPLETE
    assert hindered.state == TrialState.FAIL
    assert hindered.user_attrs["stopped"].startswith("error: FileExistsError")
    assert "Traceback" in (run / "search.log").read_text(encoding="utf-8")
    assert "Traceback" not in driver.err


@pytest.mark.slow  # test_searcher.py has it without a search
def test_a_trial_out_of_memory_gets_its_second_try_and_the_rest_keep_their_workers(
    prepared_folder: Path, tmp_path: Path
) -> None:
    """With more trials than slots: they must neither overtake it for ever nor start anew each."""
    sizes = [8, 8192] + 10 * [8]
    space = write_space(
        tmp_path / "s.yaml",
        prepared_folder,
        space={
            "lr": {"float": [0.01, 0.03]},
            "hidden_size": {"categorical": [8, 8192]},
        },
        fixed={"layers": 4, "epochs": 2},
        enqueue=[{"lr": 0.01 + 0.001 * k, "hidden_size": size} for k, size in enumerate(sizes)],
        budget={"trials": len(sizes)},
        asha=False,
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (3 * 2**30, hard))
    try:
        driver = Driver(tmp_path, "--space", space, "--out", "run")
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    workers: set[int] = set()
    while driver.process.poll() is None:
        workers |= {worker.pid for worker in driver.workers()}
        time.sleep(0.05)
    assert driver.wait() == 0, driver.err
    found = trials(tmp_path / "run")
    assert found[1].user_attrs["share"] == 2
    assert found[1].user_attrs["attempts"] == 2
    assert {trial.state for trial in found if trial.number != 1} == {TrialState.COMPLETE}
    end, start = found[1].datetime_complete, found[-4].datetime_start
    assert end is not None
    assert start is not None
    assert end < start  # it was not left for the end
    assert len(workers) <= len(sizes) // 2, driver.err  # a few may have been replaced


def test_a_worker_that_hangs_is_killed_and_its_trial_goes_on(
    prepared_folder: Path, tmp_path: Path
) -> None:
    impatient = tmp_path / "impatient"
    impatient.mkdir()
    (impatient / "sitecustomize.py").write_text(
        "import tune.watchdog as w\nw.QUIET, w.PATIENCE, w.LOOK = 5.0, 0.1, 0.5\n"
    )
    space = write_space(
        tmp_path / "s.yaml",
        prepared_folder,
        fixed={**LONG, "epochs": 150},
        budget={"trials": 1},
        resources=ALONE,
    )
    paths = f"{impatient}:{ENVIRONMENT['PYTHONPATH']}"
    driver = Driver(tmp_path, "--space", space, "--out", "run", PYTHONPATH=paths)
    driver.until(lambda: driver.err.count(" epoch ") > 2, "reports")
    (worker,) = driver.workers()
    worker.suspend()
    # For longer on a busy machine, where its reports before were slow.
    driver.until_said("trial 0 worker died: no report for ")
    assert driver.wait() == 0, driver.err
    (trial,) = trials(tmp_path / "run")
    assert trial.state == TrialState.COMPLETE
    assert trial.user_attrs["attempts"] == 2
    assert sorted(trial.intermediate_values) == list(range(1, 151))


@pytest.mark.slow  # test_searcher.py has it without a search
def test_ray_kills_workers_for_memory(prepared_folder: Path, tmp_path: Path) -> None:
    space = write_space(tmp_path / "s.yaml", prepared_folder, budget={"trials": 1})
    driver = Driver(tmp_path, "--space", space, "--out", "run", RAY_memory_usage_threshold="0.001")
    assert driver.wait() == 1, driver.err
    assert "no trial reported, 1 failed; the last: out of memory" in driver.err
    (killed,) = trials(tmp_path / "run")
    assert killed.state == TrialState.FAIL
    assert killed.user_attrs["share"] == 2
