"""What surrounds the parameters of a search: objective, sampler, ASHA, budget, resources."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lstmcls.cli import nearest
from lstmcls.config import FIELDS
from lstmcls.metrics import OBJECTIVES
from tune.space.faults import Faults, as_mapping, as_number, as_whole, check_keys

# The samplers, with Optuna's own number of random trials before the model takes over.
STARTUP_TRIALS: dict[str, int | None] = {
    "tpe": 10,
    "random": None,
    "gp": 10,
    "cmaes": 1,
    "qmc": None,
    "grid": None,
}
DEFAULT_TRIALS = 50
DEFAULT_GRACE = 0.25


@dataclass(frozen=True)
class Objective:
    """The metric that decides, and whether it is to be large or small."""

    metric: str = "val_accuracy"
    mode: str = "max"

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """The mode in Optuna's words."""
        return "maximize" if self.mode == "max" else "minimize"

    def better(self, a: float, b: float) -> bool:
        """Whether `a` beats `b`; NaN beats nothing and loses to every number."""
        if math.isnan(a) or math.isnan(b):
            return math.isnan(b) and not math.isnan(a)
        return a > b if self.mode == "max" else a < b

    def cost(self, value: float) -> float:
        """`value` as a number to be small: the best sorts first."""
        return -value if self.mode == "max" else value


@dataclass(frozen=True)
class Sampler:
    """One of Optuna's samplers; `startup_trials` is None where it has no such phase."""

    name: str = "tpe"
    startup_trials: int | None = 10


@dataclass(frozen=True)
class Asha:
    """Asynchronous successive halving: the first rung in epochs, and the factor between rungs."""

    grace_epochs: float = DEFAULT_GRACE
    reduction_factor: float = 3.0


@dataclass(frozen=True)
class Budget:
    """The search ends with whichever comes first; None does not count."""

    trials: int | None = DEFAULT_TRIALS
    minutes: float | None = None
    target: float | None = None


@dataclass(frozen=True)
class Resources:
    """What one trial is given, and how many run at a time."""

    cpu: float = 1.0
    gpu: float | Literal["auto"] = "auto"
    concurrency: int | Literal["auto"] = "auto"


@dataclass(frozen=True)
class Confirm:
    """The best `top` trials run again on up to `folds` folds each; `top` 0 is off."""

    top: int = 3
    folds: int = 5


def read_objective(faults: Faults, raw: Any) -> Objective:
    """The `objective:` section: a mapping, or the metric's name alone."""
    stated = {"metric": raw} if isinstance(raw, str) else raw
    section = as_mapping(faults, "objective", stated, "{metric: val_accuracy, mode: max}") or {}
    check_keys(faults, "objective.", section, ("metric", "mode"))
    metric = section.get("metric", Objective.metric)
    if metric not in OBJECTIVES:
        near = nearest(str(metric), OBJECTIVES) or f"; known: {', '.join(OBJECTIVES)}"
        faults.add("objective.metric", f"no trial reports {metric!r}{near}")
    mode = section.get("mode", "min" if metric == "val_loss" else "max")
    if mode not in ("min", "max"):
        faults.add("objective.mode", f"expected min or max, got {mode!r}")
    return Objective(str(metric), str(mode))


def read_sampler(faults: Faults, raw: Any) -> Sampler:
    """The `sampler:` section: a mapping, or the sampler's name alone."""
    stated = {"name": raw} if isinstance(raw, str) else raw
    section = as_mapping(faults, "sampler", stated, "{name: tpe}") or {}
    check_keys(faults, "sampler.", section, ("name", "startup_trials"))
    name = section.get("name", Sampler.name)
    if not isinstance(name, str) or name not in STARTUP_TRIALS:
        near = nearest(str(name), STARTUP_TRIALS)
        faults.add(
            "sampler.name", f"expected one of {', '.join(STARTUP_TRIALS)}, got {name!r}{near}"
        )
        return Sampler()
    startup = section.get("startup_trials")
    if startup is None:
        return Sampler(name, STARTUP_TRIALS[name])
    if STARTUP_TRIALS[name] is None:
        faults.add("sampler.startup_trials", f"{name} has none; only for tpe, gp and cmaes")
    return Sampler(name, as_whole(faults, "sampler.startup_trials", startup, 1))


def first_report(fixed: Mapping[str, Any]) -> float:
    """Epochs after which every trial reports first."""
    names = ("first_report", "report_every")
    return min(float(fixed.get(name, FIELDS[name].default)) for name in names)


def read_asha(faults: Faults, raw: Any, *, first: float, max_epochs: float) -> Asha | None:
    """The `asha:` section: a mapping, true for the defaults, or off (false, null).

    `first`: epochs at which a trial reports first.
    """
    if raw is None or raw is False or raw == "off":
        return None
    stated = {} if raw is True or raw == "on" else raw
    section = as_mapping(faults, "asha", stated, "{grace_epochs: 0.25} or off") or {}
    check_keys(faults, "asha.", section, ("grace_epochs", "reduction_factor"))
    key = "asha.grace_epochs"
    default = max(DEFAULT_GRACE, first)
    grace = as_number(faults, key, section.get("grace_epochs", default), 0, low_open=True)
    if grace is not None and grace < first:
        faults.add(key, f"{grace:g} is before the first report ({first:g}): nothing is known")
    if grace is not None and grace > max_epochs:
        faults.add(key, f"{grace:g} is above the largest number of epochs ({max_epochs:g})")
    factor = section.get("reduction_factor", Asha.reduction_factor)
    factor = as_number(faults, "asha.reduction_factor", factor, 1, low_open=True)
    return Asha(grace or DEFAULT_GRACE, factor or Asha.reduction_factor)


def read_budget(
    faults: Faults, raw: Any, objective: Objective, points: int | None = None
) -> Budget:
    """The `budget:` section; of a grid of `points` there are no more trials than these."""
    section = as_mapping(faults, "budget", raw, "{trials: 60, minutes: 10}") or {}
    check_keys(faults, "budget.", section, ("trials", "minutes", "target"))
    given = {key: value for key, value in section.items() if value is not None}
    if not given:
        return Budget(points or DEFAULT_TRIALS)
    trials = as_whole(faults, "budget.trials", given["trials"], 1) if "trials" in given else None
    if points is not None:
        trials = min(trials or points, points)
    minutes = target = None
    if "minutes" in given:
        minutes = as_number(faults, "budget.minutes", given["minutes"], 0, low_open=True)
    if "target" in given:
        target = as_number(faults, "budget.target", given["target"])
        if target is not None and objective.metric != "val_loss" and not 0 <= target <= 1:
            faults.add("budget.target", f"{objective.metric} is between 0 and 1, got {target:g}")
    return Budget(trials, minutes, target)


def read_resources(faults: Faults, raw: Any) -> Resources:
    """The `resources:` section."""
    section = as_mapping(faults, "resources", raw, "{cpu: 1, gpu: auto}") or {}
    check_keys(faults, "resources.", section, ("cpu", "gpu", "concurrency"))
    cpu = as_number(faults, "resources.cpu", section.get("cpu", 1), 0, low_open=True)
    gpu: Any = section.get("gpu", "auto")
    if gpu != "auto":
        gpu = _read_or_auto(faults, "resources.gpu", gpu)
        if gpu is not None and gpu > 1 and not gpu.is_integer():
            faults.add("resources.gpu", f"above 1 only whole GPUs can be given, got {gpu:g}")
    concurrency: Any = section.get("concurrency", "auto")
    if concurrency != "auto":
        concurrency = as_whole(faults, "resources.concurrency", concurrency, 1)
    return Resources(cpu or 1.0, gpu, concurrency)


def _read_or_auto(faults: Faults, key: str, raw: Any) -> float | None:
    if isinstance(raw, str) and nearest(raw, ["auto"]):
        faults.add(key, f"expected auto or a number, got {raw!r}{nearest(raw, ['auto'])}")
        return None
    return as_number(faults, key, raw, 0)


def read_confirm(faults: Faults, raw: Any) -> Confirm:
    """The `confirm:` section: a mapping, or off (false, null).

    `seeds` is from the versions that had no folds; it is read and says nothing.
    """
    stated = {"top": 0} if raw is None or raw is False or raw == "off" else raw
    section = as_mapping(faults, "confirm", stated, "{top: 3, folds: 5} or off") or {}
    check_keys(faults, "confirm.", section, ("top", "folds", "seeds"))
    top = as_whole(faults, "confirm.top", section.get("top", Confirm.top), 0)
    folds = as_whole(faults, "confirm.folds", section.get("folds", Confirm.folds), 2)
    return Confirm(top or 0, folds or Confirm.folds)
