"""What a run has to tell: its studies and what its winner recorded, read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from lstmcls.artifact import read_metrics
from lstmcls.cli import BadInput
from tune.queue import begun, cut_short
from tune.run_folder import RunFolder
from tune.space import Objective, SearchSpace, load_space
from tune.study import CONFIRMATION, SEARCH, ranked, read_study


@dataclass(frozen=True)
class Record:
    """A run, finished or not; its own driver may be writing it."""

    run: RunFolder
    space: SearchSpace
    search: optuna.Study
    confirmation: optuna.Study | None = None
    metrics: dict[str, Any] | None = None  # of best/, where there is one

    @property
    def objective(self) -> Objective:
        return self.space.objective

    @property
    def studies(self) -> list[optuna.Study]:
        """The search and, once it began, the confirmation."""
        return [self.search] + ([self.confirmation] if self.confirmation is not None else [])

    @cached_property
    def trials(self) -> list[FrozenTrial]:
        """Those of the search that began."""
        return [trial for trial in self.search.get_trials(deepcopy=False) if trial.params]

    @cached_property
    def ranked(self) -> list[tuple[FrozenTrial, dict[str, Any]]]:
        """(trial of the search, its best report), best first; failed ones are left out."""
        return ranked(self.search, self.objective)

    @property
    def winner(self) -> int | None:
        """The number in the search of the trial in best/; of the best one while there is none."""
        if self.metrics is not None and "trial" in self.metrics:
            return int(self.metrics["trial"])
        return self.ranked[0][0].number if self.ranked else None

    @property
    def unfinished(self) -> int:
        """Trials that are under way, of both studies; those that were cut short are not."""
        trials = [trial for study in self.studies for trial in study.get_trials(deepcopy=False)]
        return sum(begun(t) and not t.state.is_finished() and not cut_short(t) for t in trials)

    def value_range(self, values: Sequence[float]) -> list[float]:
        """Where to look at objectives: of a loss the few that are far too large are cut off."""
        known = np.array([value for value in values if np.isfinite(value)] or [0.0, 1.0])
        low, high = float(known.min()), float(known.max())
        if self.objective.mode == "min":
            high = min(high, 2 * float(np.quantile(known, 0.9)) - low)
        margin = 0.04 * (high - low) or 0.01
        return [low - margin, high + margin]


def read_record(run: RunFolder) -> Record:
    """The run as its folder has it now.

    Raises:
        BadInput: the space, the study or the winner's metrics are damaged, or nothing began.
    """
    search = read_study(run.journal, SEARCH)
    if search is None:
        raise BadInput(f"{run.path}: nothing has run yet; python -m tune.search --resume begins it")
    return Record(
        run,
        load_space(str(run.space)),
        search,
        read_study(run.journal, CONFIRMATION),
        read_metrics(run.best) if run.best.is_dir() else None,
    )
