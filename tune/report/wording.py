"""How the report says things: metrics, amounts, settings with their units."""

from __future__ import annotations

import math
from typing import Any

from optuna.trial import FrozenTrial

from tune.queue import state_name
from tune.space import Objective, Parameter

_METRICS = {"loss": "loss (nats a text)", "f1": "F1 (macro)", "roc_auc": "ROC AUC"}
_UNITS = {
    "dropout": "share of features",
    "embedding_dim": "units",
    "hidden_size": "units a direction",
    "ngrams": "tokens, at most",
    "token_dropout": "share of tokens",
    "epochs": "passes over the data",
    "batch_size": "texts",
    "warmup": "share of all steps",
}
_OUTCOMES = {"COMPLETE": "trained to the end", "PRUNED": "stopped early", "FAIL": "failed"}


def metric_title(objective: Objective) -> str:
    name = objective.metric.removeprefix("val_")
    return f"validation {_METRICS.get(name, name)}"


def parameter_title(parameter: Parameter) -> str:
    unit = _UNITS.get(parameter.field)
    return f"{parameter.name} ({unit})" if unit else parameter.name


def outcome(trial: FrozenTrial) -> str:
    """What became of a trial; one that the end of the search cut short was stopped early."""
    return _OUTCOMES.get(state_name(trial), "under way")


def value_text(value: Any) -> str:
    """A setting's value as a file states it, a float with three digits."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def params_text(params: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value_text(value)}" for name, value in params.items())


def amount(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{seconds:.1f} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def number(value: float | None) -> float:
    """NaN for what JSON has no word for."""
    return math.nan if value is None else float(value)
