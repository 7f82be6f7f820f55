"""A run as `tune.search` and `tune.load_run` give it: what a search found, for reading."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
import pandas as pd

from lstmcls.artifact import Artifact, load_artifact
from lstmcls.cli import BadInput
from lstmcls.config import load_config
from tune.run_folder import existing_run
from tune.space import SearchSpace, load_space
from tune.study import CONFIRMATION, SEARCH, ranked, read_study
from tune.tables import reports_table, trials_table

PLOTS = ("optimization_history", "intermediate_values", "parallel_coordinate", "slice")


class Run:
    """The folder of a search. Everything is read when it is asked for; nothing is written.

    Raises:
        BadInput: not the folder of a search.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._folder = existing_run(Path(path))

    @property
    def path(self) -> Path:
        return self._folder.path

    @cached_property
    def space(self) -> SearchSpace:
        """What was searched, with what the options said over it."""
        return load_space(str(self._folder.space))

    @cached_property
    def study(self) -> optuna.Study:
        """The Optuna study of the search, for reading: `optuna.visualization` and the like."""
        study = read_study(self._folder.journal, SEARCH)
        if study is None:
            raise BadInput(f"{self.path}: nothing has run yet; search(resume=...) begins it")
        return study

    @property
    def trials(self) -> pd.DataFrame:
        """A row a trial, of the search and of the confirmation, as trials.parquet holds them."""
        return trials_table(self._studies(), self.space.objective)

    @property
    def reports(self) -> pd.DataFrame:
        """A row a report: the learning curves, as reports.parquet holds them."""
        return reports_table(self._studies())

    @property
    def best(self) -> dict[str, Any]:
        """The winner's configuration: best.yaml, every field of its TrainConfig.

        Raises:
            BadInput: there is no winner yet.
        """
        self._require_winner()
        return load_config(self._folder.best_config).to_dict()

    def classifier(self) -> Artifact:
        """The winner itself; `predict(texts)` gives labels, `metrics` how good it is.

        Raises:
            BadInput: there is no winner yet.
        """
        self._require_winner()
        return load_artifact(self._folder.best)

    def figures(self) -> dict[str, Any]:
        """Optuna's figures of the search by name, for a notebook to show."""
        return {name: getattr(optuna.visualization, f"plot_{name}")(self.study) for name in PLOTS}

    def _studies(self) -> list[optuna.Study]:
        confirmation = read_study(self._folder.journal, CONFIRMATION)
        return [self.study, *([confirmation] if confirmation else [])]

    def _require_winner(self) -> None:
        if not self._folder.best.is_dir():
            raise BadInput(f"{self.path}: has no winner yet; search(resume=...) goes on with it")

    def __repr__(self) -> str:
        number, metric = len(self.study.get_trials(deepcopy=False)), self.space.objective.metric
        best = ranked(self.study, self.space.objective)[:1]
        found = f", best {metric} {best[0][1]['objective']:.4f} (trial {best[0][0].number})"
        return f"<Run {self.path}: {number} trials{found if best else ''}>"
