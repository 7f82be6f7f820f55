"""The study as tables: trials.parquet (a row a trial) and reports.parquet (a row a report)."""

from __future__ import annotations

import math
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from lstmcls.cli import BadInput
from lstmcls.config import FIELDS
from lstmcls.files import replacing
from tune.run_folder import RunFolder
from tune.space import Objective, SearchSpace
from tune.study import best_report, reports_of


def trials_table(study: optuna.Study, objective: Objective) -> pd.DataFrame:
    """number, state, why it stopped, params_*, best_* and last_* metrics, what was spent (UTC)."""
    trials = study.get_trials(deepcopy=False)
    table = pd.DataFrame([_trial_row(trial, objective) for trial in trials])
    for name in ("started", "ended") if len(trials) else ():
        table[name] = pd.to_datetime(table[name], utc=True)
    # A conditional parameter is missing in some rows; whole numbers would become floats.
    for name in {name for trial in trials for name in trial.params}:
        kinds = {type(trial.params[name]) for trial in trials if name in trial.params}
        if kinds == {int}:
            table[f"params_{name}"] = table[f"params_{name}"].astype("Int64")
        elif kinds == {bool}:
            table[f"params_{name}"] = table[f"params_{name}"].astype("boolean")
    return table


def _trial_row(trial: FrozenTrial, objective: Objective) -> dict[str, Any]:
    reports = reports_of(trial)
    last, best = reports[-1] if reports else {}, best_report(trial, objective) or {}
    metrics = [name for name in last if name.startswith(("val_", "train_"))]
    return {
        "study": "",
        "number": trial.number,
        "state": trial.state.name,
        "stopped": trial.user_attrs.get("stopped", ""),
        "objective": best.get("objective", math.nan),
        "best_epoch": best.get("epoch", math.nan),
        "epochs": last.get("epoch", 0.0),
        "tokens": last.get("tokens", 0),
        "seconds": last.get("seconds", 0.0),
        "attempts": trial.user_attrs.get("attempts", 1),
        "started": _utc(trial.datetime_start),
        "ended": _utc(trial.datetime_complete),
        **{f"params_{name}": value for name, value in trial.params.items()},
        **{f"best_{name}": best.get(name, math.nan) for name in metrics},
        **{f"last_{name}": last[name] for name in metrics},
    }


def _utc(local: datetime | None) -> datetime | None:
    """Optuna's times are local and do not say so."""
    return local.astimezone(UTC) if local else None


def reports_table(study: optuna.Study) -> pd.DataFrame:
    """trial, step, epoch, the metrics, tokens, seconds (of the trial), time (UTC)."""
    rows = [
        {"trial": trial.number, **report}
        for trial in study.get_trials(deepcopy=False)
        for report in reports_of(trial)
    ]
    table = pd.DataFrame(rows)
    if rows:
        table["time"] = pd.to_datetime(table["time"], unit="s", utc=True)
    return table


def settings_table(space: SearchSpace, study: optuna.Study) -> pd.DataFrame:
    """A row a trial that began: its TrainConfig's fields, `variant` and `value`.

    The value is NaN where the trial did not train to its end.
    """
    rows = []
    for trial in study.get_trials(deepcopy=False):
        with suppress(BadInput):  # it has no parameters yet, or none that go together
            config = space.config(trial.params)
            value = trial.value if trial.state == TrialState.COMPLETE else math.nan
            rows.append({**config.to_dict(), "variant": config.variant, "value": value})
    return pd.DataFrame(rows, columns=[*FIELDS, "variant", "value"])


def write_tables(run: RunFolder, studies: list[optuna.Study], objective: Objective) -> None:
    """Write both tables; `study` says which of the run's studies a row belongs to."""
    trials, reports = [], []
    for study in studies:
        trials.append(trials_table(study, objective).assign(study=study.study_name))
        reports.append(reports_table(study).assign(study=study.study_name))
    for path, tables in ((run.trials, trials), (run.reports, reports)):
        filled = [table for table in tables if len(table)]
        joined = pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()
        with replacing(path) as temporary:
            joined.to_parquet(temporary, index=False)
