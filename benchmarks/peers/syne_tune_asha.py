"""Syne Tune: ASHA on the local backend, two workers, as in its README.

`python syne_tune_asha.py DATA OUT MINUTES SEED`, with `pip install syne-tune`. Its spaces have
no conditions: every trial is given every parameter and leaves alone what does not apply.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from syne_tune import StoppingCriterion, Tuner
from syne_tune.backend import LocalBackend
from syne_tune.config_space import choice, finrange, loguniform, randint, uniform
from syne_tune.optimizer.baselines import ASHA

SPACE = {
    "variant": choice(
        ["plain", "bidirectional", "dropout", "zero_state", "max_pooling", "improved"]
    ),
    "dropout_rate": uniform(0.1, 0.6),
    "embedding_dim": finrange(32, 128, 4, cast_int=True),
    "hidden_size": finrange(32, 128, 4, cast_int=True),
    "optimizer": choice(["sgd", "adam", "adamw", "rmsprop"]),
    "lr_sgd": loguniform(0.01, 1.0),
    "lr_adam": loguniform(1e-3, 0.02),
    "lr_rmsprop": loguniform(5e-4, 0.01),
    "weight_decay": loguniform(1e-5, 0.1),
    "momentum": choice([0.0, 0.5, 0.9, 0.95]),
    "nesterov": choice([0, 1]),
    "epochs": randint(1, 8),
    "batch_size": choice([32, 64, 128]),
    "schedule": choice(["constant", "cosine", "one_cycle"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, kind in (("data", Path), ("out", Path), ("minutes", float), ("seed", int)):
        parser.add_argument(name, type=kind)
    args = parser.parse_args()
    os.environ["SYNETUNE_FOLDER"] = str(args.out.resolve())
    constants = {"data": str(args.data.resolve()), "results": str(args.out.resolve())}
    tuner = Tuner(
        trial_backend=LocalBackend(entry_point=str(Path(__file__).with_name("syne_tune_trial.py"))),
        scheduler=ASHA(
            {**SPACE, **constants, "seed": args.seed},
            metric="accuracy",
            time_attr="epoch",
            max_t=8,
            do_minimize=False,
            random_seed=args.seed,
        ),
        stop_criterion=StoppingCriterion(max_wallclock_time=args.minutes * 60),
        n_workers=2,
        sleep_time=1.0,  # seconds between looks at the workers; its default of 5 is for long trials
    )
    tuner.run()


if __name__ == "__main__":
    main()
