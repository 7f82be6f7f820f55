"""Searches on a real GPU; skipped where there is none."""

from __future__ import annotations

import dataclasses
import io
import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import reviews, write_csv
from driving import Driver, check_interrupted, search, trials, write_space
from optuna.trial import TrialState

from lstmcls.artifact import load_artifact
from lstmcls.config import TrainConfig
from lstmcls.dataset import Prepared
from lstmcls.fit import TrainingState, fit
from lstmcls.prepare import prepare

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")
AUTO = {"cpu": 1, "gpu": "auto", "concurrency": "auto"}


def test_trials_share_the_gpu_and_the_winner_works_anywhere(
    prepared_folder: Path, prepared: Prepared, tmp_path: Path
) -> None:
    space = write_space(
        tmp_path / "s.yaml",
        prepared_folder,
        fixed={"ngrams": 2, "epochs": 2},
        space={"variant": {"categorical": ["improved", "plain"]}},
        resources=AUTO,
        confirm={"top": 1, "folds": 2},
    )
    driver = search(tmp_path, "--space", space, "--out", "run")
    assert driver.process.returncode == 0, driver.err
    states = {trial.state for trial in trials(tmp_path / "run")}
    assert states <= {TrialState.COMPLETE, TrialState.PRUNED}, driver.err
    best = tmp_path / "run/best"
    assert json.loads((best / "metrics.json").read_text())["device"] == "cuda"
    rows = prepared.splits["val"]
    on_cpu, on_gpu = (
        load_artifact(best, device).row_probabilities(rows) for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(on_cpu, on_gpu, atol=5e-3)


def test_the_largest_configuration_decides_how_many_share_it(tmp_path: Path) -> None:
    # 64 rows of 3,000 tokens, both directions of 1,024 units: some 15 GB in a training step.
    texts = [(" ".join([text] * 400), label) for text, label in reviews(100)]
    prepare([str(write_csv(tmp_path / "long.csv", texts))], tmp_path / "data", max_length=3000)
    space = write_space(
        tmp_path / "s.yaml",
        tmp_path / "data",
        fixed={"batch_size": 64, "epochs": 2},
        space={"hidden_size": {"categorical": [1024, 512]}},
        enqueue=[{"lr": 0.001 * k, "hidden_size": 1024} for k in range(1, 7)],
        resources=AUTO,
        budget={"trials": 8},
    )
    driver = search(tmp_path, "--space", space, "--out", "run")
    assert driver.process.returncode == 0, driver.err
    found = trials(tmp_path / "run")
    assert {trial.state for trial in found} <= {TrialState.COMPLETE, TrialState.PRUNED}, driver.err
    # One that runs out of memory gets a second try with twice the share.
    assert not any("share" in trial.user_attrs for trial in found), driver.err


def test_what_does_not_fit_its_share_fails_alone(prepared_folder: Path, tmp_path: Path) -> None:
    space = write_space(
        tmp_path / "s.yaml",
        prepared_folder,
        fixed={"embedding_dim": 4096, "epochs": 1},
        # Weights, gradients and moments of 4,096 units take 4 GB.
        space={"hidden_size": {"categorical": [4096, 16]}},
        enqueue=[{"lr": 0.001, "hidden_size": 4096}, {"lr": 0.001, "hidden_size": 16}],
        resources={"cpu": 1, "gpu": 0.01, "concurrency": 2},
        budget={"trials": 2},
    )
    driver = search(tmp_path, "--space", space, "--out", "run")
    assert driver.process.returncode == 0, driver.err
    found = {trial.params["hidden_size"]: trial for trial in trials(tmp_path / "run")}
    assert found[16].state == TrialState.COMPLETE, driver.err
    assert found[4096].state == TrialState.FAIL, driver.err
    assert "out of memory" in found[4096].user_attrs["stopped"]


def test_a_saved_state_goes_on_to_the_same_numbers(prepared: Prepared, tiny: TrainConfig) -> None:
    splits = prepared.splits
    config = dataclasses.replace(tiny, epochs=2, zero_state=False, ngrams=2)

    def created() -> TrainingState:
        return TrainingState.create(config, prepared.vocab_size, len(prepared.labels), "cuda")

    whole, fresh, buffer = created(), created(), io.BytesIO()
    run = fit(whole, splits["train"], splits["val"])
    next(run)
    torch.save(whole.to_dict(), buffer)
    buffer.seek(0)
    rest = list(run)
    fresh.restore(torch.load(buffer, map_location="cpu", weights_only=True))
    again = list(fit(fresh, splits["train"], splits["val"]))
    assert [report.step for report in again] == [report.step for report in rest]
    # Not bit for bit: a GPU adds up in any order.
    for one, other in zip(again, rest, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, rel=0.05)


def test_an_interrupted_search_goes_on(prepared_folder: Path, tmp_path: Path) -> None:
    space = write_space(
        tmp_path / "s.yaml",
        prepared_folder,
        fixed={"epochs": 20},
        asha="off",
        resources={"gpu": 0.5},
        budget={"trials": 4},
    )
    driver = Driver(tmp_path, "--space", space, "--out", tmp_path / "run")
    driver.until(lambda: driver.err.count(" epoch ") > 6, "reports")
    driver.signal(signal.SIGINT)
    driver.wait()
    check_interrupted(driver, tmp_path / "run")
    again = search(tmp_path, "--resume", "run")
    assert again.process.returncode == 0, again.err
    after = {trial.number: trial for trial in trials(tmp_path / "run")}
    assert len(after) == 4
    for trial in after.values():
        steps = sorted(trial.intermediate_values)
        assert steps == list(range(1, len(steps) + 1))
        assert len(steps) == 20
