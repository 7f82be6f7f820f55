"""`--mlflow URI`: an experiment a search, a run a trial, and with the winner's run its model.

A trial is written when it has ended, by a thread: a server that hangs holds up nothing else. What
it did not take, or an earlier sitting did not write, is written at the next occasion: every run
carries the number of its trial.
"""

from __future__ import annotations

import functools
import logging
import math
import os
import shlex
import threading
import time
from collections import deque
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

logger = logging.getLogger(__name__)

Key = tuple[str, int]  # a study and the number of a trial, and when that started

LONGEST = 200  # characters of MLflow's own words
PAUSE = 60.0  # seconds after a fault
PATIENCE = 30.0  # seconds without an answer after which the end of a search waits no longer
AT_ONCE = 500  # metrics in one request; MLflow takes 1000
CURVES = ("train_loss", *OBJECTIVES, "epoch", "tokens")
STATUS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}  # MLflow's words


def connect(uri: str) -> Any:
    """An MlflowClient of the tracking server or database at `uri`.

    Raises:
        BadInput: the package is missing, or nothing answers at `uri`.
    """
    # A server that is gone must not hold up the end of a search for minutes.
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
        self._studies: dict[str, optuna.Study] = {}
        self._taken: set[Key] = set()  # trials that are written or in the queue
        self._queue = deque[Callable[[], None]]()  # what the thread has to write
        self._thread = threading.Thread()  # alive while there is something
        self._pause = -math.inf  # until then nothing is tried, on the monotonic clock
        self._experiment: str | None = None
        self._runs: dict[Key, str] = {}
        self._whole: set[Key] = set()

    def update(self, study: optuna.Study) -> None:
        self._studies[study.study_name] = study
        for trial in study.get_trials(deepcopy=False):
            key = _key(study, trial)
            if trial.state.is_finished() and key not in self._taken:
                self._taken.add(key)
                self._queue.append(functools.partial(self._write, trial, key))
        self._start()

    def close(self, winner: int | None) -> None:
        for study in self._studies.values():
            self.update(study)
        if winner is not None:
            search = self._studies[SEARCH]
            keys = {trial.number: _key(search, trial) for trial in search.get_trials()}
            self._queue.append(functools.partial(self._tag, keys, winner))
        self._pause = -math.inf
        while self._queue and time.monotonic() > self._pause:
            left = len(self._queue)
            self._start()
            self._thread.join(PATIENCE)
            if self._thread.is_alive() and len(self._queue) == left:
                break  # the server hangs
        if self._queue:
            resume = f"python -m tune.search --resume {shlex.quote(self._run.named)} --mlflow ..."
            self._say(f"MLflow: {len(self._queue)} records are missing there; `{resume}` adds them")

    def _start(self) -> None:
        """Have the thread write the queue, unless it does already or has failed a moment ago."""
        if self._queue and not self._thread.is_alive() and time.monotonic() > self._pause:
            self._thread = threading.Thread(target=self._work, daemon=True)
            self._thread.start()

    def _work(self) -> None:
        with self._forgiving():
            if self._experiment is None:
                self._open()
            while self._queue:
                self._queue[0]()
                self._queue.popleft()

    def _tag(self, keys: dict[int, Key], winner: int) -> None:
        """Tag the winner's run, which gets the model, and no other run of this search."""
        tagged = {run.info.run_id for run in self._search("tags.winner = 'true'")}
        for number, key in keys.items():
            if number == winner and key in self._whole:
                self._client.log_artifacts(self._runs[key], str(self._run.best), "model")
                self._client.set_tag(self._runs[key], "winner", "true")
            elif self._runs.get(key) in tagged:
                self._client.delete_tag(self._runs[key], "winner")

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

        if key in self._whole:  # an earlier sitting wrote it
            return
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
        self._whole.add(key)

    @contextmanager
    def _forgiving(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._pause = time.monotonic() + PAUSE
            logger.exception("MLflow")
            why = (str(error).splitlines() or [type(error).__name__])[0].split(". ")[0][:LONGEST]
            self._say(f"MLflow: {why}; what is missing is written later")


def _key(study: optuna.Study, trial: FrozenTrial) -> Key:
    """Another search may have had a folder, and so an experiment, of the same name."""
    return f"{study.study_name} {trial.number}", _milliseconds(trial.datetime_start)


def _milliseconds(when: datetime | None) -> int:
    return round(1000 * when.timestamp()) if when else 0
