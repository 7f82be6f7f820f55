"""Ray Tune as its PyTorch tutorial has it: OptunaSearch, ASHA, one report an epoch.

`python ray_tutorial.py DATA OUT MINUTES SEED`. Everything else is Ray's default: one CPU and a
new process a trial. The data go through the object store, as Ray's guide advises.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import ray
import ray.tune
from data import Data, load
from model import record, train
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch
from space import suggest


def train_reviews(config: dict[str, Any], data: Data, results: Path, seed: int) -> None:
    for accuracy in train(config, data, seed):
        record(results, ray.tune.get_context().get_trial_id(), accuracy)
        ray.tune.report({"accuracy": accuracy})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, kind in (("data", Path), ("out", Path), ("minutes", float), ("seed", int)):
        parser.add_argument(name, type=kind)
    args = parser.parse_args()
    ray.init(address="local", num_cpus=2)
    tuner = ray.tune.Tuner(
        ray.tune.with_parameters(
            train_reviews,
            data=load(args.data),
            results=args.out.resolve() / "results.jsonl",
            seed=args.seed,
        ),
        tune_config=ray.tune.TuneConfig(
            metric="accuracy",
            mode="max",
            search_alg=OptunaSearch(suggest, metric="accuracy", mode="max", seed=args.seed),
            scheduler=ASHAScheduler(max_t=8, grace_period=1, reduction_factor=2),
            num_samples=-1,
            time_budget_s=args.minutes * 60,
        ),
        run_config=ray.tune.RunConfig(storage_path=str(args.out.resolve())),
    )
    print(tuner.fit().get_best_result().config)


if __name__ == "__main__":
    main()
