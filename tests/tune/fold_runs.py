"""Runs of a confirmation without training: their reports in the study, what they said in files."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from fakes import finished
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState
from scipy.special import log_softmax

from tune.checkpoints import Checkpoints, trial_folder
from tune.confirm import Candidate, Point, suggest_run
from tune.store import Store
from tune.study import CONFIRMATION

Logs = NDArray[np.float32]


def ran(
    study: optuna.Study,
    candidates: Sequence[Candidate],
    point: Point | None = None,
    *values: float,
    state: TrialState = TrialState.COMPLETE,
    why: str = "trained to the end",
) -> FrozenTrial:
    """A run of these reports (one of 0.5 where there is none) at `point`, or the next in queue."""
    suggest = functools.partial(suggest_run, candidates)
    return finished(study, suggest, list(values or (0.5,)), state, why, **(point or {}))


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
