"""`--tensorboard`: RUN/tensorboard/ holds a curve and the hyperparameters of every trial, live.

    tensorboard --logdir RUN/tensorboard

Every sitting writes anew what the study holds, so that nothing is there twice or missing.
"""

from __future__ import annotations

import shutil
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from lstmcls.cli import BadInput
from lstmcls.metrics import OBJECTIVES
from tune.run_folder import RunFolder
from tune.space import Objective
from tune.study import best_report, reports_of

CURVES = ("train_loss", *OBJECTIVES, "epoch")


def require_tensorboard() -> None:
    """Find out before anything starts.

    Raises:
        BadInput: the package is missing.
    """
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError:
        raise BadInput(
            "--tensorboard: needs the package tensorboard; pip install tensorboard"
        ) from None


class TensorBoard:
    """One event file a trial; the step of a curve is the number of the report."""

    def __init__(self, run: RunFolder, objective: Objective) -> None:
        self._folder = run.tensorboard
        self._objective = objective
        self._writers: dict[tuple[str, int], Any] = {}
        self._written: dict[tuple[str, int], int] = {}  # reports of each trial
        self._ended: set[tuple[str, int]] = set()

    def update(self, study: optuna.Study) -> None:
        for trial in study.get_trials(deepcopy=False):
            key = study.study_name, trial.number
            reports = reports_of(trial)
            if key in self._ended or not reports:
                continue
            writer = self._writers.get(key) or self._begin(key)
            for report in reports[self._written.get(key, 0) :]:
                for name in CURVES:
                    writer.add_scalar(name, report[name], report["step"], report["time"])
            self._written[key] = len(reports)
            if trial.state.is_finished():
                self._end(trial, key)

    def close(self, winner: int | None) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _begin(self, key: tuple[str, int]) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        path = self._folder / f"{key[0]}-{key[1]:04d}"
        shutil.rmtree(path, ignore_errors=True)  # of an earlier sitting
        self._writers[key] = SummaryWriter(str(path), flush_secs=5)
        return self._writers[key]

    def _end(self, trial: FrozenTrial, key: tuple[str, int]) -> None:
        from torch.utils.tensorboard.summary import hparams

        writer = self._writers.pop(key)
        if best := best_report(trial, self._objective):
            name = f"best_{self._objective.metric}"
            writer.add_scalar(name, best["objective"], best["step"], best["time"])
        settings = {n: str(v) if isinstance(v, bool) else v for n, v in trial.params.items()}
        # Without its summary of the experiment, which would have the columns of one trial only.
        for summary in hparams({**settings, "state": trial.state.name}, {})[1:]:  # type: ignore[no-untyped-call]
            writer.file_writer.add_summary(summary)
        writer.close()
        self._ended.add(key)
