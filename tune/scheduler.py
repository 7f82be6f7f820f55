"""ASHA (Li et al. 2020, arXiv 1810.05934) whose rungs can be rebuilt from the study.

Ray's ASHAScheduler, keyed by the study's trial numbers: a trial that goes on after a crash
finds itself in the rungs that it had reached. It does not resume paused trials: it only stops.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import optuna
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from tune.space import Asha, Objective, SearchSpace
from tune.study import reports_of


class StudyASHA(ASHAScheduler):  # type: ignore[misc]
    """Stops a trial at a rung when it is below the best 1/reduction_factor that reached it."""

    def __init__(self, asha: Asha, objective: Objective, max_epochs: float) -> None:
        super().__init__(
            time_attr="epoch",
            metric="objective",
            mode=objective.mode,
            max_t=max_epochs,
            grace_period=min(asha.grace_epochs, max_epochs),
            reduction_factor=asha.reduction_factor,
        )
        self._reached: dict[int, float] = {}  # the epoch of each trial's latest result

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_add(tune_controller, _keyed(trial))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        number = trial.config["number"]
        if result["epoch"] <= self._reached.get(number, 0.0):
            # Known: the trial goes on from an older checkpoint. It would fill a lower rung.
            action: str = TrialScheduler.CONTINUE
            return action
        self._reached[number] = result["epoch"]
        action = super().on_trial_result(tune_controller, _keyed(trial), result)
        return action

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        # Every result has been in on_trial_result; a second time would fill a lower rung.
        self.on_trial_remove(tune_controller, trial)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        del tune_controller
        self._trial_info.pop(_keyed(trial).trial_id, None)

    def rungs(self) -> dict[float, dict[int, float]]:
        """What each rung (epochs) holds: the objective of every trial that reached it."""
        sign = self._metric_op
        return {
            milestone: {number: sign * value for number, value in recorded.items()}
            for milestone, recorded in self._brackets[0]._rungs
        }


def replay(scheduler: StudyASHA, study: optuna.Study, space: SearchSpace) -> dict[int, float]:
    """Fill the rungs with the study's reports, in the order in which they came.

    Returns the unfinished trials that the scheduler stops, with the epoch: their driver died
    between the decision and its record. One that had trained to its end was not stopped: it is
    asked for again, finds nothing left to train and is COMPLETE.
    """
    history = [
        (trial, report)
        for trial in study.get_trials(deepcopy=False)
        for report in reports_of(trial)
    ]
    stopped: dict[int, float] = {}
    for trial, report in sorted(history, key=lambda item: _place(item[1])):
        stand_in = SimpleNamespace(config={"number": trial.number})
        scheduler.on_trial_add(None, stand_in)
        if scheduler.on_trial_result(None, stand_in, report) == TrialScheduler.STOP:
            stopped[trial.number] = report["epoch"]
    return {
        trial.number: stopped[trial.number]
        for trial in study.get_trials(deepcopy=False)
        if trial.number in stopped
        and not trial.state.is_finished()
        and stopped[trial.number] < space.config(trial.params).epochs
    }


def _place(report: Mapping[str, Any]) -> tuple[float, ...]:
    """Where a report was among all; those without an `order` are of an earlier version."""
    return report.get("order", 0), report["time"], report["step"]


def _keyed(trial: Any) -> Any:
    return SimpleNamespace(trial_id=trial.config["number"])
