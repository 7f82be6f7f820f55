"""Whether stated intervals hold, on results that are computed by hand."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import reviews, write_csv
from optuna.trial import TrialState

from benchmarks.coverage import drawn, report, stated, true, write
from lstmcls.config import TrainConfig
from lstmcls.dataset import Prepared, load_prepared
from lstmcls.fit import Report, TrainingState, fit
from lstmcls.prepare import prepare
from tune import winner
from tune.checkpoints import Checkpoints, trial_folder
from tune.confirm import (
    choose_candidates,
    confirmation_points,
    enqueue_points,
    rank_candidates,
    suggest_run,
)
from tune.intervals import LEVEL
from tune.resources import Share
from tune.run_folder import RunFolder
from tune.space import parse_space
from tune.study import CONFIRMATION, SEARCH, finish, open_study, record_report


def repeat(accuracy: float, truth: float, **more: Any) -> dict[str, dict[str, Any]]:
    said = {"accuracy": accuracy, "accuracy_interval": [accuracy - 0.05, accuracy + 0.05]}
    others = {"f1": None, "f1_interval": None, "difference": None, "difference_interval": None}
    return {
        "stated": others | said | more,
        "true": {"accuracy": truth, "f1": truth, "difference": None},
    }


def test_the_report_counts_what_holds_and_what_is_not_stated() -> None:
    repeats = [repeat(0.90, 0.88, f1=0.9), repeat(0.90, 0.80, f1=0.7), repeat(0.80, 0.84)]
    lines = report(repeats).splitlines()[2:]
    assert lines[0] == "| accuracy | 3 | 2 of 3 (0.20 to 0.94) | +0.0267 ± 0.1745 |"
    assert lines[1] == "| f1 | 2 | not stated | -0.0400 ± 0.7624 |"
    assert lines[2] == "| difference | 0 | not stated | not stated |"


def test_a_run_states_what_its_metrics_hold(tmp_path: Path) -> None:
    (tmp_path / "best").mkdir()
    test = {"accuracy": 0.9, "accuracy_interval": [0.8, 0.95], "rows": 40}
    record = json.dumps({"max_length": 5, "test": test})
    (tmp_path / "best" / "metrics.json").write_text(record, encoding="utf-8")
    found = stated(tmp_path)
    assert found["accuracy_interval"] == [0.8, 0.95]
    assert found["difference"] is None
    assert len(found) == 6


def test_a_sample_has_the_shares_of_the_whole_and_leaves_the_rest() -> None:
    rows = [(str(i), "rare" if i % 10 == 0 else "common") for i in range(200)]
    sample, rest = drawn(rows, 50, seed=1)
    assert Counter(label for _, label in sample) == {"rare": 5, "common": 45}
    assert sorted(sample + rest) == sorted(rows)
    assert drawn(rows, 50, seed=2)[0] != sample


SPACE = {
    "space": {"lr": {"float": [1e-5, 0.1], "log": True}},
    "fixed": {"embedding_dim": 8, "hidden_size": 8, "batch_size": 16, "epochs": 4},
    "enqueue": [{"lr": 2e-5}],  # the baseline, which learns nothing
    "sampler": "random",
    "confirm": {"top": 1, "seeds": 1},
}


def trained(trial: optuna.Trial, config: TrainConfig, run: RunFolder, data: Prepared) -> Report:
    """The best report of a real training, whose weights are where a worker leaves them."""
    state = TrainingState.create(config, data.vocab_size, len(data.labels))
    for _ in fit(state, data.splits["train"], data.splits["val"]):
        pass
    assert state.best is not None
    assert state.best_weights is not None
    store = Checkpoints(trial_folder(run.checkpoints, CONFIRMATION, trial.number))
    store.save_weights(state.best.step, state.best_weights, None)
    return state.best


def test_the_truth_is_that_of_the_networks_the_run_stated(tmp_path: Path) -> None:
    """On its own test rows a run's winner and baseline reach what the run stated of them."""
    rows = reviews(400)
    data, test = write_csv(tmp_path / "a.csv", rows[:300]), tmp_path / "test.parquet"
    write(test, rows[300:])
    prepare([str(data)], tmp_path / "prepared", test=str(test), progress=False)
    prepared = load_prepared(tmp_path / "prepared", ("train", "val", "test"))
    run = RunFolder(tmp_path / "run")
    run.checkpoints.make(parents=True)
    space = parse_space(SPACE, "space.yaml")
    run.space.write_text(space.to_yaml(), encoding="utf-8")
    search, confirmation = (
        open_study(run.journal, name, space.objective) for name in (SEARCH, CONFIRMATION)
    )
    for lr, value in ((2e-5, 0.5), (0.05, 0.9)):
        search.enqueue_trial({"lr": lr})
        trial = search.ask()
        space.suggest(trial)
        seen = {"step": 1, "epoch": 1.0, "objective": value, "val_accuracy": value}
        record_report(search, trial, seen)
        finish(search, trial.number, TrialState.COMPLETE, "trained to the end", value)
    candidates = choose_candidates(space, search)
    enqueue_points(confirmation, confirmation_points(space, candidates))
    for _ in candidates:
        trial = confirmation.ask()
        best = trained(trial, suggest_run(candidates, trial), run, prepared)
        value = best.val["accuracy"]
        found = {"step": best.step, "epoch": best.epoch, "objective": value, **best.metrics()}
        record_report(confirmation, trial, found)
        finish(confirmation, trial.number, TrialState.COMPLETE, "trained to the end", value)
    ranked = rank_candidates(candidates, confirmation, space.objective)
    ours, theirs = (next(winner.of_candidate(run, space, c, confirmation)) for c in ranked)
    share = Share(cpu=1, gpu=0, concurrency=1)
    tested = winner.look_at_test(ours, theirs, prepared, share).figures
    extra = {"objective": "val_accuracy", "level": LEVEL, "test": tested}
    winner.export(run, ours, prepared, share, extra)

    said, truth = stated(run.path), true(run.path, test)
    assert said["difference"] > 0.1
    assert {name: said[name] for name in truth} == pytest.approx(truth, abs=1e-6)
