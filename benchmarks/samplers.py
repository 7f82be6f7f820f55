"""Which sampler suits a short, pruned, conditional search: replayed on a model of real curves.

`python benchmarks/samplers.py RUN...` (finished searches). Boosted trees learn from the runs'
reports how good a configuration is after some epochs and how long an epoch takes. A simulated
search asks, reports, stops and records as a real one does, in simulated time, with the noise
that the reports have around the trees. It is judged by what the trees say, without noise, of the
trial that it would call its best.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import math
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
from machine import described
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState
from ray.tune.schedulers import TrialScheduler
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.model_selection import GroupKFold, cross_val_predict

from lstmcls.config import FIELDS, TrainConfig
from lstmcls.fit import report_points
from tune.intervals import mean_interval
from tune.run_folder import RunFolder
from tune.scheduler import StudyASHA
from tune.space import Asha, SearchSpace, load_space
from tune.study import (
    SEARCH,
    ask,
    best_report,
    enqueue,
    finish,
    frozen_trial,
    open_study,
    ranked,
    read_study,
    record_report,
    reports_of,
)

START = 0.5  # seconds from the end of a trial to the next one's first batch
BATCHES = 250  # of an epoch: reports come where a real trial's do

# Name: TPESampler's settings; each is stated, for Optuna has changed its defaults.
TPE: dict[str, dict[str, Any]] = {
    "tpe": {},
    "tpe, multivariate": {"multivariate": True},
    "tpe, group": {"multivariate": True, "group": True},
    "tpe, liar": {"constant_liar": True},
    "tpe, multivariate, liar": {"multivariate": True, "constant_liar": True},
    "tpe, group, liar": {"multivariate": True, "group": True, "constant_liar": True},
}
for startup in (5, 20):
    TPE[f"tpe, group, liar, first {startup} random"] = {
        **TPE["tpe, group, liar"], "n_startup_trials": startup,
    }  # fmt: skip
UNSTATED = {"multivariate": False, "group": False, "constant_liar": False, "n_startup_trials": 10}


class Curves:
    """What the reports of real trials say of any configuration."""

    def __init__(self, runs: Sequence[Path]) -> None:
        rows, values, seconds, groups = [], [], [], []
        for run in map(RunFolder, runs):
            space, study = load_space(str(run.space)), read_study(run.journal, SEARCH)
            assert study is not None, run
            for trial in study.get_trials(deepcopy=False):
                for report in reports_of(trial):
                    rows.append(_features(space.config(trial.params), report["epoch"]))
                    values.append(report["objective"])
                    seconds.append(np.log(report["seconds"] / report["epoch"]))
                    groups.append(f"{run.path} {trial.number}")
        unseen = cross_val_predict(_trees(), rows, values, groups=groups, cv=GroupKFold(10))
        self.trials, self.reports = len(set(groups)), len(rows)
        self.correlation = float(np.corrcoef(unseen, values)[0, 1])
        self.objective = _trees().fit(rows, values)
        self.seconds = _trees().fit(rows, seconds)
        self.noise = float(np.std(values - self.objective.predict(rows)))

    def of(self, config: TrainConfig) -> list[tuple[float, float, float]]:
        """(epoch, seconds since the start, objective) of every report."""
        epochs = [epoch for _, epoch in report_points(config, BATCHES)]
        rows = [_features(config, epoch) for epoch in epochs]
        rate = float(np.exp(self.seconds.predict(rows[-1:])[0]))
        return [
            (epoch, START + rate * epoch, float(value))
            for epoch, value in zip(epochs, self.objective.predict(rows), strict=True)
        ]


def _trees() -> GradientBoostingRegressor:
    return GradientBoostingRegressor(
        n_estimators=200, max_depth=4, learning_rate=0.05, subsample=0.5, random_state=0
    )


def _features(config: TrainConfig, epoch: float) -> list[float]:
    """Numbers for a tree: a choice by its place, a learning rate by its logarithm."""
    values = {name: getattr(config, name) for name in FIELDS}
    values["lr"] = math.log(config.lr)
    for name, field in FIELDS.items():
        if "choices" in field.metadata:
            values[name] = field.metadata["choices"].index(values[name])
    return [*map(float, values.values()), epoch, epoch / config.epochs]


def search(
    space: SearchSpace, name: str, curves: Curves, seconds: float, slots: int, seed: int
) -> tuple[float, int]:
    """(the true objective of the trial that looked best, trials) after simulated `seconds`."""
    with tempfile.TemporaryDirectory() as folder:
        study = open_study(Path(folder) / "study.journal", SEARCH, space.objective)
        return _search(
            study, space, functools.partial(sampler, name, seed), curves, seconds, slots, seed
        )


def _search(
    study: optuna.Study,
    space: SearchSpace,
    sampler: Callable[[int], BaseSampler],
    curves: Curves,
    seconds: float,
    slots: int,
    seed: int,
) -> tuple[float, int]:
    enqueue(study, space.enqueue)
    asha = StudyASHA(space.asha or Asha(), space.objective, space.max_epochs)
    random = np.random.default_rng([seed, 1])
    running: dict[int, tuple[optuna.Trial, list[tuple[float, dict[str, Any]]]]] = {}
    clock = 0.0
    while True:
        while len(running) < slots:
            asked = ask(study, space.suggest, sampler, None)
            assert asked is not None
            trial, config = asked
            reports = [
                (clock + after, {"step": step, "epoch": epoch, "objective": value + error})
                for step, (epoch, after, value) in enumerate(curves.of(config), start=1)
                for error in [random.normal(0, curves.noise)]
            ]
            running[trial.number] = (trial, reports)
            asha.on_trial_add(None, _rays(trial.number))
        number = min(running, key=lambda number: running[number][1][0][0])
        trial, reports = running[number]
        clock, report = reports.pop(0)
        if clock > seconds:
            break
        record_report(study, trial, report)
        action = asha.on_trial_result(None, _rays(number), report)
        if not reports:
            best = best_report(frozen_trial(study, number), space.objective)
            value = best["objective"] if best else None
            finish(study, number, TrialState.COMPLETE, "trained to the end", value)
        elif action == TrialScheduler.STOP:
            finish(study, number, TrialState.PRUNED, f"asha at epoch {report['epoch']:g}")
        else:
            continue
        del running[number]
    chosen, _ = ranked(study, space.objective)[0]
    true = max(value for _, _, value in curves.of(space.config(chosen.params)))
    return true, len(study.get_trials(deepcopy=False))


def _rays(number: int) -> Any:
    """As much of Ray's Trial as the scheduler looks at."""
    return SimpleNamespace(config={"number": number})


def sampler(name: str, seed: int, number: int) -> BaseSampler:
    """The sampler of trial `number`: a new one for each, as in a real search."""
    own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    return TPESampler(**UNSTATED | TPE[name], seed=own) if name in TPE else RandomSampler(own)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--space", default="full")
    parser.add_argument("--minutes", type=float, default=6.0, help="of a search, simulated")
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=30)
    args = parser.parse_args()
    curves, space = Curves(args.runs), load_space(args.space)
    print(described())
    print(
        f"{curves.trials} trials, {curves.reports} reports; correlation with those of trials that "
        f"the trees have not seen {curves.correlation:.2f}, noise {curves.noise:.4f}; simulated: "
        f"{args.slots} at once, {args.minutes:g} minutes, {args.seeds} seeds\n"
    )
    print(f"| sampler | enqueued points | trials | {space.objective.metric}, mean | 95 % |")
    print("| --- | --- | ---: | ---: | ---: |")
    for points, searched in (("yes", space), ("no", dataclasses.replace(space, enqueue=()))):
        for name in ("random", *TPE):
            one = functools.partial(search, searched, name, curves, 60 * args.minutes, args.slots)
            with ProcessPoolExecutor() as pool:
                found = list(pool.map(one, range(args.seeds)))
            mean, _, half = mean_interval([value for value, _ in found])
            trials = np.mean([count for _, count in found])
            print(f"| {name} | {points} | {trials:.0f} | {mean:.4f} | ± {half:.4f} |", flush=True)


if __name__ == "__main__":
    main()
