"""Optuna alone: TPE and Hyperband, two processes that share a study in a journal file.

`python optuna_alone.py DATA OUT MINUTES SEED`, as in Optuna's tutorials on parallelization and
on JournalStorage.
"""

from __future__ import annotations

import argparse
from functools import partial
from multiprocessing import Pool
from pathlib import Path

import optuna
from data import Data, load
from model import record, train
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from space import suggest


def objective(trial: optuna.Trial, data: Data, results: Path, seed: int) -> float:
    suggest(trial)
    accuracy = 0.0
    for epoch, accuracy in enumerate(train(trial.params, data, seed), start=1):
        record(results, trial.number, accuracy)
        trial.report(accuracy, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned
    return accuracy


def run_worker(worker: int, args: argparse.Namespace) -> None:
    study = optuna.create_study(
        study_name="reviews",
        storage=JournalStorage(JournalFileBackend(str(args.out / "journal.log"))),
        direction="maximize",
        # With one seed for both, both would try the same configurations.
        sampler=optuna.samplers.TPESampler(seed=2 * args.seed + worker),
        pruner=optuna.pruners.HyperbandPruner(min_resource=1, max_resource=8, reduction_factor=3),
        load_if_exists=True,
    )
    data, results = load(args.data), args.out / "results.jsonl"
    study.optimize(
        partial(objective, data=data, results=results, seed=args.seed), timeout=args.minutes * 60
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, kind in (("data", Path), ("out", Path), ("minutes", float), ("seed", int)):
        parser.add_argument(name, type=kind)
    args = parser.parse_args()
    with Pool(processes=2) as pool:
        pool.map(partial(run_worker, args=args), range(2))


if __name__ == "__main__":
    main()
