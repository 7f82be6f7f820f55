"""The studies as tables: trials.parquet (a row a trial) and reports.parquet (a row a report).

Every column has one type, and what a row lacks is null, so that any reader of Parquet takes them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from lstmcls.cli import BadInput
from lstmcls.config import FIELDS, TrainConfig
from lstmcls.files import replacing
from lstmcls.metrics import OBJECTIVES
from tune.queue import begun, state_name
from tune.run_folder import RunFolder
from tune.space import Objective, SearchSpace
from tune.study import best_report, reports_of

TIME = "datetime64[us, UTC]"
METRICS = ("train_loss", *OBJECTIVES)

_TRIALS = {
    "study": "string",
    "number": "int64",
    "state": "string",
    "stopped": "string",
    "objective": "float64",
    "best_epoch": "float64",
    "epochs": "float64",
    "tokens": "int64",
    "seconds": "float64",
    "attempts": "int64",
    "started": TIME,
    "ended": TIME,
}
_FIGURES = {f"{which}_{name}": "float64" for which in ("best", "last") for name in METRICS}
_REPORTS = {
    "study": "string",
    "trial": "int64",
    "step": "int64",
    "epoch": "float64",
    "objective": "float64",
    **dict.fromkeys(METRICS, "float64"),
    "tokens": "int64",
    "seconds": "float64",
    "time": TIME,
}
_PARAMETERS = {bool: "boolean", int: "Int64", float: "float64", str: "string"}


def trials_table(studies: Sequence[optuna.Study], objective: Objective) -> pd.DataFrame:
    """study, number, state, why it stopped, what was spent, params_*, best_* and last_* metrics.

    Points that are in the queue and were never begun have no row. What the end of the search cut
    short is PRUNED.
    """
    trials = [
        (study, trial)
        for study in studies
        for trial in study.get_trials(deepcopy=False)
        if begun(trial)
    ]
    rows = [{"study": study.study_name, **_trial_row(trial, objective)} for study, trial in trials]
    kinds: dict[str, set[type]] = {}
    for _, trial in trials:
        for name, value in trial.params.items():
            kinds.setdefault(f"params_{name}", set()).add(type(value))
    params = {name: _PARAMETERS[_common(types)] for name, types in kinds.items()}
    return _typed(rows, {**_TRIALS, **params, **_FIGURES})


def _common(types: set[type]) -> type:
    return types.pop() if len(types) == 1 else float if types == {int, float} else str


def _trial_row(trial: FrozenTrial, objective: Objective) -> dict[str, Any]:
    reports = reports_of(trial)
    last, best = reports[-1] if reports else {}, best_report(trial, objective) or {}
    return {
        "number": trial.number,
        "state": state_name(trial),
        "stopped": trial.user_attrs.get("stopped") or None,
        "objective": best.get("objective"),
        "best_epoch": best.get("epoch"),
        "epochs": last.get("epoch", 0.0),
        "tokens": last.get("tokens", 0),
        "seconds": last.get("seconds", 0.0),
        "attempts": trial.user_attrs.get("attempts", 1),
        "started": _utc(trial.datetime_start),
        "ended": _utc(trial.datetime_complete),
        **{f"params_{name}": value for name, value in trial.params.items()},
        **{f"best_{name}": best.get(name) for name in METRICS},
        **{f"last_{name}": last.get(name) for name in METRICS},
    }


def _utc(local: datetime | None) -> datetime | None:
    """Optuna's times are local and do not say so."""
    return local.astimezone(UTC) if local else None


def reports_table(studies: Sequence[optuna.Study]) -> pd.DataFrame:
    """study, trial, step, epoch, the metrics, tokens, seconds (of the trial), time."""
    rows = [
        {
            **report,
            "study": study.study_name,
            "trial": trial.number,
            "time": datetime.fromtimestamp(report["time"], UTC),
        }
        for study in studies
        for trial in study.get_trials(deepcopy=False)
        for report in reports_of(trial)
    ]
    return _typed(rows, _REPORTS)


def settings_table(space: SearchSpace, study: optuna.Study) -> pd.DataFrame:
    """A row a TrainConfig that a trial began with: its fields, `variant` and `value`.

    The value is NaN where no trial of it trained to its end. A second trial of the same one, seed
    included, has the same value and would pass for a replicate.
    """
    values: dict[TrainConfig, float] = {}
    for trial in study.get_trials(deepcopy=False):
        with suppress(BadInput):  # it has no parameters yet, or none that go together
            config = space.config(trial.params)
            value = trial.value if trial.state == TrialState.COMPLETE else None
            if value is not None:
                values[config] = value
            values.setdefault(config, math.nan)
    rows = [{**c.to_dict(), "variant": c.variant, "value": value} for c, value in values.items()]
    return pd.DataFrame(rows, columns=[*FIELDS, "variant", "value"])


def _typed(rows: list[dict[str, Any]], types: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(types)).astype(types)


def write_tables(run: RunFolder, studies: Sequence[optuna.Study], objective: Objective) -> None:
    """Write both tables, each whole or not at all."""
    trials, reports = trials_table(studies, objective), reports_table(studies)
    for path, table in ((run.trials, trials), (run.reports, reports)):
        with replacing(path) as temporary:
            table.to_parquet(temporary, index=False)
