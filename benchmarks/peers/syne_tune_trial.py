"""One trial of syne_tune_asha.py: the script that Syne Tune's local backend starts."""

from __future__ import annotations

import argparse
from pathlib import Path

from data import load
from model import record, train
from syne_tune import Reporter


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("variant", "optimizer", "schedule"):
        parser.add_argument(f"--{name}")
    for name in ("embedding_dim", "hidden_size", "nesterov", "epochs", "batch_size", "seed"):
        parser.add_argument(f"--{name}", type=int)
    for name in ("dropout_rate", "lr_sgd", "lr_adam", "lr_rmsprop", "weight_decay", "momentum"):
        parser.add_argument(f"--{name}", type=float)
    for name in ("data", "results", "st_checkpoint_dir"):
        parser.add_argument(f"--{name}", type=Path)
    args = parser.parse_args()
    trial = args.st_checkpoint_dir.parent.name
    report = Reporter()
    for epoch, accuracy in enumerate(train(vars(args), load(args.data), args.seed), start=1):
        record(args.results / "results.jsonl", trial, accuracy)
        report(epoch=epoch, accuracy=accuracy)


if __name__ == "__main__":
    main()
