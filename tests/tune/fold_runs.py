"""Runs of a confirmation without training: reports in the study, what they said in files."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from fakes import finished, small_space
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState
from scipy.special import log_softmax

from lstmcls.dataset import TokenDataset
from lstmcls.folds import divide
from tune.checkpoints import Checkpoints, trial_folder
from tune.confirmation.candidates import (
    Candidate,
    Point,
    confirmation_points,
    enqueue_points,
    point,
    suggest_run,
    with_runs,
)
from tune.confirmation.out_of_fold import OutOfFold
from tune.confirmation.racing import Race
from tune.space import SearchSpace
from tune.store import Store
from tune.study import CONFIRMATION, open_study

Logs = NDArray[np.float32]
ADAM = {"optimizer": "adam", "lr": 0.01, "hidden_size": 32}
ROWS, FOLDS = 300, 3


def ran(
    study: optuna.Study,
    candidates: Sequence[Candidate],
    at: Point | None = None,
    *values: float,
    state: TrialState = TrialState.COMPLETE,
    why: str = "trained to the end",
) -> FrozenTrial:
    """A run of these reports, one of 0.5 where there is none: at a point, or the next in queue."""
    suggest = functools.partial(suggest_run, candidates)
    return finished(study, suggest, list(values or (0.5,)), state, why, **(at or {}))


def said(checkpoints: Store, number: int, logs: Logs) -> None:
    """The log-probabilities of the held-out rows where the worker of a run leaves them."""
    folder = trial_folder(checkpoints, CONFIRMATION, number)
    folder.make(parents=True)
    Checkpoints(folder).save_held_out(logs)


def answers(labels: NDArray[Any], right: NDArray[Any], classes: int = 2) -> Logs:
    """Log-probabilities [rows, classes] whose argmax is the label where `right`, else the next."""
    answered = np.where(right, labels, (labels + 1) % classes)
    logs: Logs = log_softmax(2.0 * np.eye(classes)[answered], axis=1).astype(np.float32)
    return logs


def pool(rows: int = ROWS) -> TokenDataset:
    """Rows of one token each, their labels 0 and 1."""
    labels = (np.arange(rows) % 2).astype(np.int32)
    return TokenDataset(np.ones(rows, np.int32), np.arange(rows + 1), labels)


class Field:
    """Candidates on folds; what they say is written as workers write it."""

    def __init__(self, folder: Path, count: int, folds: int = FOLDS, **sections: Any) -> None:
        self.space: SearchSpace = small_space(**sections)
        self.candidates = [
            Candidate(
                number, self.space.config({**ADAM, "hidden_size": 8 * (number + 1)}), False, 3
            )
            for number in range(count)
        ]
        self.folds = divide(pool(), folds, seed=0)
        self.store = Store(str(folder / "checkpoints"))
        self.found = OutOfFold(self.folds, self.store, self.space.objective)
        self.points = confirmation_points(self.space, self.candidates, folds)
        self.study = open_study(folder / "journal", CONFIRMATION, self.space.objective)
        enqueue_points(self.study, self.points)
        self.notes: list[str] = []
        self.race = Race(self.study, self.candidates, self.points, self.found, self.notes.append)
        self.rng = np.random.default_rng(0)
        self.luck = [self.rng.random(len(self.folds.held_out(f))) for f in range(folds)]

    def run(self, share: float, own: float = 0.2) -> None:
        """The next run in the queue ends, right on this share of its rows.

        `own`: of its rows, where its luck is not that of the other candidates.
        """
        trial = ran(self.study, self.candidates, None, share)
        fold = trial.params["fold"]
        labels, luck = self.folds.held_out(fold).labels, self.luck[fold].copy()
        mine = self.rng.random(len(luck)) < own
        luck[mine] = self.rng.random(int(mine.sum()))
        said(self.store, trial.number, answers(labels, luck < share))

    def fails(self) -> None:
        """The next run in the queue."""
        why = "diverged: the loss is nan"
        ran(self.study, self.candidates, None, state=TrialState.FAIL, why=why)

    def passes(self) -> None:
        """The time cuts the next run in the queue short."""
        ran(self.study, self.candidates, None, state=TrialState.PRUNED, why="time is up")

    def now(self) -> list[Candidate]:
        ran_now = with_runs(self.candidates, self.study, self.points)
        return self.found.read_all(ran_now, self.notes.append)

    def waiting(self) -> set[int]:
        return {
            int(point(trial)["candidate"])
            for trial in self.study.get_trials(states=(TrialState.WAITING,))
        }
