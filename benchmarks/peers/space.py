"""The ranges of search_spaces/full.yaml in Optuna's define-by-run form."""

from __future__ import annotations

import optuna


def suggest(trial: optuna.Trial) -> None:
    """Draw every parameter that applies; they are in `trial.params` then."""
    variant = trial.suggest_categorical(
        "variant", ["plain", "bidirectional", "dropout", "zero_state", "max_pooling", "improved"]
    )
    if variant in ("dropout", "improved"):
        trial.suggest_float("dropout_rate", 0.1, 0.6)
    trial.suggest_int("embedding_dim", 32, 128, step=32)
    trial.suggest_int("hidden_size", 32, 128, step=32)
    _suggest_optimizer(trial)
    trial.suggest_int("epochs", 1, 8)
    trial.suggest_categorical("batch_size", [32, 64, 128])
    trial.suggest_categorical("schedule", ["constant", "cosine", "one_cycle"])


def _suggest_optimizer(trial: optuna.Trial) -> None:
    optimizer = trial.suggest_categorical("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
    if optimizer == "sgd":
        trial.suggest_float("lr_sgd", 0.01, 1.0, log=True)
        if trial.suggest_categorical("momentum", [0.0, 0.5, 0.9, 0.95]):
            trial.suggest_categorical("nesterov", [True, False])
    elif optimizer == "rmsprop":
        trial.suggest_float("lr_rmsprop", 5e-4, 0.01, log=True)
    else:
        trial.suggest_float("lr_adam", 1e-3, 0.02, log=True)
        if optimizer == "adamw":
            trial.suggest_float("weight_decay", 1e-5, 0.1, log=True)
