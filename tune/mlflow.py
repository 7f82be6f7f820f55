"""`--mlflow URI`: an experiment a search, a run a trial, and with the winner's run its model.

A trial is written when it has ended. What a server did not take, or an earlier sitting did not
write, is written at the next occasion: every run carries the number of its trial.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from lstmcls.cli import BadInput
from lstmcls.metrics import OBJECTIVES
from tune.run_folder import RunFolder
from tune.space import Objective
from tune.study import SEARCH, best_report, reports_of

Key = tuple[str, int]  # a study and the number of a trial, and when that started

LONGEST = 200  # characters of MLflow's own words
PAUSE = 60.0  # seconds after a fault
AT_ONCE = 500  # metrics in one request; MLflow takes 1000
CURVES = ("train_loss", *OBJECTIVES, "epoch", "tokens")
STATUS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}  # MLflow's words


def connect(uri: str) -> Any:
    """An MlflowClient of the tracking server or database at `uri`.

    Raises:
        BadInput: the package is missing, or nothing answers at `uri`.
    """
    # A server that is gone must not hold up the search for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError:
        raise BadInput(
            "--mlflow: needs the package mlflow-skinny; pip install mlflow-skinny"
        ) from None
    try:
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    except (MlflowException, OSError, ValueError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0].split(". ")[0][:LONGEST]
        raise BadInput(
            f"--mlflow {uri}: cannot be used ({why}); a server, or sqlite:///FILE, is what works"
        ) from None
    return client


class MLflow:
    """The experiment has the name of the run's folder; a fault here never stops the search."""

    def __init__(
        self, client: Any, run: RunFolder, objective: Objective, say: Callable[[str], None]
    ) -> None:
        self._client, self._run, self._objective, self._say = client, run, objective, say
        self._experiment: str | None = None
        self._runs: dict[Key, str] = {}
        self._whole: set[Key] = set()
        self._pause = -math.inf  # until then nothing is tried, on the monotonic clock
        self._studies: dict[str, optuna.Study] = {}

    def update(self, study: optuna.Study) -> None:
        self._studies[study.study_name] = study
        if time.monotonic() > self._pause:
            with self._forgiving():
                self._catch_up(study)

    def close(self, winner: int | None) -> None:
        with self._forgiving():
            for study in self._studies.values():
                self._catch_up(study)
            if winner is not None and self._experiment is not None:
                self._tag(winner)

    def _tag(self, winner: int) -> None:
        """Tag the winner's run, which gets the model, and no other run of this search."""
        tagged = {run.info.run_id for run in self._search("tags.winner = 'true'")}
        search = self._studies[SEARCH]
        for trial in search.get_trials(deepcopy=False):
            key = _key(search, trial)
            if trial.number == winner and key in self._whole:
                self._client.log_artifacts(self._runs[key], str(self._run.best), "model")
                self._client.set_tag(self._runs[key], "winner", "true")
            elif self._runs.get(key) in tagged:
                self._client.delete_tag(self._runs[key], "winner")

    def _catch_up(self, study: optuna.Study) -> None:
        if self._experiment is None:
            self._open()
        for trial in study.get_trials(deepcopy=False):
            key = _key(study, trial)
            if trial.state.is_finished() and key not in self._whole:
                self._write(trial, key)
                self._whole.add(key)

    def _open(self) -> None:
        found = self._client.get_experiment_by_name(self._run.name)
        self._experiment = (
            found.experiment_id if found else self._client.create_experiment(self._run.name)
        )
        for run in self._search(""):
            key = run.data.tags.get("trial", ""), run.info.start_time
            self._runs[key] = run.info.run_id
            if run.info.status != "RUNNING":
                self._whole.add(key)

    def _search(self, query: str) -> list[Any]:
        page = self._client.search_runs([self._experiment], query, max_results=1000)
        runs = list(page)
        while page.token:
            page = self._client.search_runs(
                [self._experiment], query, max_results=1000, page_token=page.token
            )
            runs += page
        return runs

    def _write(self, trial: FrozenTrial, key: Key) -> None:
        from mlflow.entities import Metric, Param, RunTag

        if key not in self._runs:
            run = self._client.create_run(
                self._experiment, key[1], {"trial": key[0]}, run_name=key[0]
            )
            self._runs[key] = run.info.run_id
        metrics = [
            Metric(name, report[name], round(1000 * report["time"]), report["step"])
            for report in reports_of(trial)
            for name in CURVES
            if math.isfinite(report[name])
        ]
        if best := best_report(trial, self._objective):
            name = f"best_{self._objective.metric}"
            when = round(1000 * best["time"])
            metrics.append(Metric(name, best["objective"], when, best["step"]))
        params = [Param(name, str(value)) for name, value in trial.params.items()]
        tags = [
            RunTag("state", trial.state.name),
            RunTag("stopped", trial.user_attrs.get("stopped", "")),
        ]
        self._client.log_batch(self._runs[key], metrics[:AT_ONCE], params, tags)
        for start in range(AT_ONCE, len(metrics), AT_ONCE):
            self._client.log_batch(self._runs[key], metrics[start : start + AT_ONCE])
        ended = _milliseconds(trial.datetime_complete)
        self._client.set_terminated(self._runs[key], STATUS[trial.state.name], ended)

    @contextmanager
    def _forgiving(self) -> Iterator[None]:
        from mlflow.exceptions import MlflowException

        try:
            yield
        except (MlflowException, OSError) as error:
            self._pause = time.monotonic() + PAUSE
            why = (str(error).splitlines() or [type(error).__name__])[0].split(". ")[0][:LONGEST]
            self._say(f"MLflow: {why}; what is missing is written later")


def _key(study: optuna.Study, trial: FrozenTrial) -> Key:
    """Another search may have had a folder, and so an experiment, of the same name."""
    return f"{study.study_name} {trial.number}", _milliseconds(trial.datetime_start)


def _milliseconds(when: datetime | None) -> int:
    return round(1000 * when.timestamp()) if when else 0
