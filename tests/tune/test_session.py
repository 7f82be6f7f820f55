"""What a sitting's clock begins with, and what the end of a search must not cost: its winner."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import Told, a_report, asked, finished, in_memory, small_space

from lstmcls.artifact import load_artifact, read_metrics
from lstmcls.cli import RunFailed
from lstmcls.config import TrainConfig, load_config
from lstmcls.dataset import Prepared
from lstmcls.fit import TrainingState
from lstmcls.model import LSTMClassifier
from tune import linear_baseline, session
from tune.checkpoints import Checkpoints, trial_folder
from tune.live import Display
from tune.resources import Share
from tune.run_folder import RunFolder
from tune.session import Outcome, Session
from tune.space import Objective, SearchSpace
from tune.study import SEARCH, open_study, record_report
from tune.winner import Winner

folder = pytest.fixture(in_memory)
BUDGET = {"trials": 2, "minutes": 1e-4}  # both used up: neither study is asked for more
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
    Checkpoints(place).save_weights(1, state.model.state_dict(), None)


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
        killed.setattr(linear_baseline, "chosen_linear", dies)
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
    assert f"# accuracy of a linear model (TF-IDF, logistic regression): {figure}\n" in head
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
    found = linear_baseline.linear_baseline(prepared, Objective(), notes.append)
    assert found["accuracy"] > 0.5
    assert "test" not in found
    monkeypatch.setattr(linear_baseline, "chosen_linear", failing)
    assert linear_baseline.linear_baseline(prepared, Objective(), notes.append) == {}
    assert notes[-1].endswith(said)


def test_without_two_classes_there_is_no_linear_model(prepared: Prepared) -> None:
    train = prepared.splits["train"]
    alone = dataclasses.replace(train, labels=np.zeros_like(train.labels))
    one = dataclasses.replace(prepared, splits={**prepared.splits, "train": alone})
    assert linear_baseline.linear_baseline(one, Objective(), print) == {}


class Ended:
    """A run whose trials have all ended, each with one report a value."""

    def __init__(self, folder: Path, prepared: Prepared) -> None:
        self.run, self.prepared = RunFolder(folder), prepared
        self.space = small_space(confirm=False, budget=BUDGET)
        self.search = open_study(self.run.journal, SEARCH, self.space.objective)
        for values in ([0.5, 0.75, 0.625], [0.25, 0.375]):
            finished(self.search, self.space.suggest, values)

    def weights(self, number: int, *steps: int) -> None:
        """As a worker leaves them after these reports."""
        config = self.space.config(self.search.get_trials()[number].params)
        kept = Checkpoints(_made(trial_folder(self.run.checkpoints, SEARCH, number)))
        before = None
        for step in steps:
            kept.save_weights(step, network(config, self.prepared), before)
            before = step

    def conduct(self) -> tuple[Outcome, str]:
        """What the next sitting makes of it, and what it says."""
        display = Told(self.space)
        share = Share(1, 0, 1)
        outcome = Session(self.run, self.space, self.prepared, share, display, ()).conduct()
        return outcome, "\n".join(display.notes)


def _made(store: Any) -> Any:
    store.make(parents=True)
    return store


def network(config: TrainConfig, prepared: Prepared) -> dict[str, Any]:
    return LSTMClassifier(config, prepared.vocab_size, len(prepared.labels)).state_dict()


def test_weights_that_are_gone_cost_no_winner_where_others_are_left(
    folder: Path, prepared: Prepared
) -> None:
    ended = Ended(folder, prepared)
    ended.weights(0, 1, 3)
    ended.weights(1, 2)
    outcome, said = ended.conduct()
    assert isinstance(outcome.winner, Winner)
    assert (outcome.winner.trial, outcome.winner.report["objective"]) == (0, 0.625)
    assert read_metrics(ended.run.best)["val"]["accuracy"] == 0.625
    assert "the weights of trial 0 at epoch 2 cannot be read" in said
    assert "trial 0 at epoch 3 is used instead" in said


def test_where_the_best_has_its_weights_nothing_is_said(folder: Path, prepared: Prepared) -> None:
    ended = Ended(folder, prepared)
    ended.weights(0, 1, 2)
    outcome, said = ended.conduct()
    assert isinstance(outcome.winner, Winner)
    assert outcome.winner.report["objective"] == 0.75
    assert "weights" not in said


def test_without_any_weights_the_run_fails_and_says_what_to_do(
    folder: Path, prepared: Prepared
) -> None:
    with pytest.raises(RunFailed, match=r"weights of trial 0 cannot be read .*train it again"):
        Ended(folder, prepared).conduct()


@pytest.mark.parametrize(("seconds", "share"), [(0.01, 0.5), (2.21, 0.4), (9000.0, 0.3)])
def test_the_search_ends_earlier_where_the_confirmation_needs_it(
    folder: Path, prepared: Prepared, seconds: float, share: float
) -> None:
    """Of a minute half; less where three folds of the best trial take long; never below 0.3."""
    sitting = a_session(folder, small_space(budget={"minutes": 1}), prepared)
    trial, _ = asked(sitting.search, sitting.space, None)
    record_report(sitting.search, trial, a_report(1, 0.5) | {"seconds": seconds})
    stop = sitting._stop(sitting._left.search, None)
    bridge = sitting._bridge(sitting.search, stop, sitting.space.suggest, 1, lambda: 0.0)
    bridge.best = None
    sitting._keep_enough(bridge)
    assert stop.deadline == pytest.approx(sitting._started + 30, abs=1)
    bridge.best = (trial.number, 0.5)
    sitting._keep_enough(bridge)
    assert stop.deadline == pytest.approx(sitting._started + 60 * share, abs=1)
