"""Whole run folders without training, for what reads them."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
from fakes import EPOCHS, a_report, asked, score, small_space
from optuna.trial import TrialState
from ray.tune.schedulers import TrialScheduler

from tune.run_folder import RunFolder
from tune.scheduler import StudyASHA
from tune.space import SearchSpace
from tune.study import SEARCH, best_report, finish, frozen_trial, open_study, record_report

HOSTILE = "<img src=x onerror=alert(1)>"
ASHA = {"grace_epochs": 1, "reduction_factor": 2}


def a_run(folder: Path, trials: int = 12, **sections: Any) -> RunFolder:
    """A run of the small space; every fifth trial fails for a HOSTILE reason, ASHA stops some."""
    space = small_space(**{"asha": ASHA, **sections})
    folder.mkdir(parents=True)
    run = RunFolder(folder)
    run.space.write_text(space.to_yaml(), encoding="utf-8")
    search(open_study(run.journal, SEARCH, space.objective), space, trials)
    return run


def search(study: optuna.Study, space: SearchSpace, trials: int) -> None:
    """Trials to a total of `trials`, one after the other, through the real scheduler."""
    scheduler = None
    if space.asha is not None:
        scheduler = StudyASHA(space.asha, space.objective, space.max_epochs)
    while (found := asked(study, space, trials)) is not None:
        trial, config = found
        if trial.number % 5 == 4:
            finish(study, trial.number, TrialState.FAIL, f"error: ValueError: {HOSTILE}")
            continue
        for step in range(1, EPOCHS + 1):
            value = score(config) * (1 - 0.5**step)
            value = value if space.objective.mode == "max" else 1 - value
            report = a_report(step, math.nan if (trial.number, step) == (3, 1) else value)
            record_report(study, trial, report)
            if scheduler is not None and step < EPOCHS and _stops(scheduler, trial.number, report):
                finish(study, trial.number, TrialState.PRUNED, f"asha at epoch {step}")
                break
        else:
            best = best_report(frozen_trial(study, trial.number), space.objective)
            assert best is not None
            state, value = TrialState.COMPLETE, best["objective"]
            finish(study, trial.number, state, "trained to the end", value)


def _stops(scheduler: StudyASHA, number: int, report: dict[str, Any]) -> bool:
    stand_in = SimpleNamespace(config={"number": number})
    scheduler.on_trial_add(None, stand_in)
    action = scheduler.on_trial_result(None, stand_in, report)
    return bool(action == TrialScheduler.STOP)
