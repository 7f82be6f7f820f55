"""What a sitting's clock begins with, and what the end of a search must not cost: its winner."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from fakes import finished, in_memory, small_space

from lstmcls.artifact import load_artifact
from lstmcls.config import load_config
from lstmcls.dataset import Prepared
from lstmcls.fit import TrainingState
from tune import session
from tune.checkpoints import Checkpoints, trial_folder
from tune.live import Display
from tune.resources import Share
from tune.run_folder import RunFolder
from tune.session import Session
from tune.space import Objective, SearchSpace
from tune.study import SEARCH

folder = pytest.fixture(in_memory)
GRID: dict[str, Any] = {
    "space": {"optimizer": {"categorical": ["sgd", "adam"]}, "hidden_size": {"int": [1, 300]}},
    "sampler": "grid",
}


def a_session(folder: Path, space: SearchSpace, prepared: Prepared) -> Session:
    """As the driver makes it, without Ray."""
    run, display = RunFolder(folder), Display(space, quiet=True)
    run.space.write_text(space.to_yaml(), encoding="utf-8")
    return Session(run, space, prepared, Share(1, 0, 1), display, [])


def test_the_clock_starts_when_the_grid_is_in_the_queue(
    folder: Path, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue, ended = session.enqueue, []
    monkeypatch.setattr(
        session, "enqueue", lambda *given: (enqueue(*given), ended.append(time.monotonic()))
    )
    sitting = a_session(folder, small_space(**GRID), prepared)
    assert len(sitting.search.get_trials(deepcopy=False)) == 600
    assert sitting._started >= ended[0]
    lines = sitting.run.journal.read_text(encoding="utf-8").splitlines()
    queued = max(number for number, line in enumerate(lines) if "fixed_params" in line)
    begun = next(number for number, line in enumerate(lines) if "sitting_0" in line)
    assert queued < begun


def a_winner(sitting: Session, prepared: Prepared) -> None:
    """A trial that has ended, with its weights."""
    trial = finished(sitting.search, sitting.space.suggest, [0.5])
    config = sitting.space.config(trial.params)
    state = TrainingState.create(config, prepared.vocab_size, len(prepared.labels))
    place = trial_folder(sitting.run.checkpoints, SEARCH, trial.number)
    place.make(parents=True)
    Checkpoints(place).save_weights(1, state.model.state_dict())


def test_the_winner_is_whole_before_a_linear_model_is_trained(
    folder: Path, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes memory: where that kills the driver, the winner is there."""
    sitting = a_session(folder, small_space(budget={"trials": 1}, confirm=False), prepared)
    a_winner(sitting, prepared)
    run = sitting.run

    def dies(*_: object) -> dict[str, float]:
        raise SystemExit(-9)

    with monkeypatch.context() as killed:
        killed.setattr(session, "linear_metrics", dies)
        with pytest.raises(SystemExit):
            sitting.conduct()
    before = load_artifact(run.best)
    assert "linear" not in before.metrics
    assert "linear" not in run.best_config.read_text(encoding="utf-8")
    outcome = a_session(folder, sitting.space, prepared).conduct()
    after = load_artifact(run.best)
    assert after.metrics == before.metrics | {"linear": outcome.linear}
    assert outcome.linear["accuracy"] > 0.9
    figure = f"{outcome.linear['accuracy']:.4f}"
    assert f"logistic regression on the same split: accuracy {figure}" in (
        run.best / "README.md"
    ).read_text(encoding="utf-8")
    head = run.best_config.read_text(encoding="utf-8")
    assert f"# val_accuracy of a linear model (TF-IDF, logistic regression): {figure}\n" in head
    assert load_config(run.best_config) == after.config


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (MemoryError("no more"), "left out: MemoryError: no more"),
        (KeyboardInterrupt(), "left out: interrupted"),
    ],
)
def test_a_linear_model_that_fails_is_left_out(
    fault: BaseException, said: str, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> dict[str, float]:
        raise fault

    notes: list[str] = []
    assert session.linear_baseline(prepared, Objective(), notes.append)["accuracy"] > 0.5
    monkeypatch.setattr(session, "linear_metrics", failing)
    assert session.linear_baseline(prepared, Objective(), notes.append) == {}
    assert notes[-1].endswith(said)
