"""Random search: two processes, each trains one random configuration after another to its end.

`python random_search.py DATA OUT MINUTES SEED`.
"""

from __future__ import annotations

import argparse
from functools import partial
from multiprocessing import Pool
from pathlib import Path

import optuna
from data import Data, load
from model import record, train
from space import suggest


def objective(trial: optuna.Trial, worker: int, data: Data, results: Path, seed: int) -> float:
    suggest(trial)
    accuracy = 0.0
    for accuracy in train(trial.params, data, seed):
        record(results, f"{worker}-{trial.number}", accuracy)
    return accuracy


def run_worker(worker: int, args: argparse.Namespace) -> None:
    sampler = optuna.samplers.RandomSampler(seed=2 * args.seed + worker)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    data, results = load(args.data), args.out / "results.jsonl"
    study.optimize(
        partial(objective, worker=worker, data=data, results=results, seed=args.seed),
        timeout=args.minutes * 60,
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
